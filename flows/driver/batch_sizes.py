"""How many rows an inference actor is asked for at once: as many as fit, remembered for each size of images."""

from __future__ import annotations

from collections.abc import Hashable

PATIENCE = 8
"""A batch that takes longer than this part of the time after which an actor counts as dead does not grow."""


class BatchSizes:
    """Begins with a number of rows, doubles it while batches of it fit, and halves it for good where one does not."""

    def __init__(self, first: int, most: int, *, hang_seconds: float = float("inf")) -> None:
        """Nothing is known of any size.

        Args:
            first: Rows to begin with.
            most: Rows that are never exceeded; not above `first` means that batches do not grow.
            hang_seconds: When an actor that does not answer counts as dead.
        """
        self._first, self._most, self._hang_seconds = first, max(first, most), hang_seconds
        self._limits: dict[Hashable, int] = {}
        self._settled: set[Hashable] = set()

    def limit(self, size: Hashable) -> int:
        """Rows that are asked for at once."""
        return self._limits.get(size, self._first)

    def fitted(self, size: Hashable, rows: int, seconds: float) -> None:
        """A batch was made in so many seconds."""
        limit = self.limit(size)
        if rows >= limit and size not in self._settled and seconds * PATIENCE <= self._hang_seconds:
            self._limits[size] = min(2 * limit, self._most)

    def exceeded(self, size: Hashable, rows: int) -> int:
        """A batch did not fit; returns how many rows may."""
        self._settled.add(size)
        self._limits[size] = min(self.limit(size), (rows + 1) // 2)
        return self._limits[size]
