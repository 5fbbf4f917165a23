"""Finished rows become visible here: the driver gathers them and appends them to the manifest."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from flows.driver.endings import TooManyFailuresError
from flows.settings import CommitSettings, FailureSettings
from pinco.catalog.manifest.adoption import commit_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import FILE_BYTES, RUNNING_FILE_BYTES, compact
from pinco.catalog.store.base import StoreError
from pinco.generation.faults import is_input_fault

COMPACT_EVERY = 100
"""Appends between two compactions."""

log = logging.getLogger(__name__)


class Recorder:
    """Appends finished rows every `commit.seconds`, and whenever `commit.rows` of them are there.

    Images are in the store, with their rows beside them, before the rows come here: what a killed driver loses is made
    good by the next run, which appends these rows.

    The limit of failures judges the system: rows whose photo is to blame count neither as failed nor as finished.

    Attributes:
        statuses: Rows so far, by status.
        appends: Batches that were appended.
        dropped: Rows that were left out, because another run had done their jobs since `base`, the manifest's version
            when the run was planned.
    """

    def __init__(
        self,
        table: ManifestTable,
        run_id: str,
        *,
        base: int,
        commit: CommitSettings,
        failures: FailureSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table, self._run_id, self._base = table, run_id, base
        self._settings, self._failures, self._clock = commit, failures, clock
        self._rows: list[Row] = []  # finished since the last append
        self._due = clock() + commit.seconds
        self._lock = threading.Lock()
        self.statuses: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()  # of the system, by error_type
        self._judged = 0  # rows that are no fault of their photo
        self.appends = self.dropped = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Take finished rows; appends when enough of them are there."""
        self._rows.extend(rows)
        with self._lock:
            self.statuses.update(row.status for row in rows)
        for row in rows:
            if not is_input_fault(row.error_type):
                self._judged += 1
                self._faults.update([row.error_type] if row.error_type else [])
        if len(self._rows) >= self._settings.rows:
            self.commit()

    def tick(self) -> None:
        """Append when it is time.

        Raises:
            TooManyFailuresError: The run is past its limit of failures; everything was appended before.
        """
        if self._clock() >= self._due:
            self.commit()
        failed = self._faults.total()
        if self._judged >= self._failures.rows and failed > self._failures.share * self._judged:
            self.commit()
            kinds = ", ".join(f"{kind} ({count})" for kind, count in self._faults.most_common(3))
            raise TooManyFailuresError(
                f"{failed} of {self._judged} rows with a usable photo failed, more than the limit of "
                f"{self._failures.share:.0%} (failures.share in the settings): {kinds}. What was finished is in the "
                "manifest, with the reasons"
            )

    def commit(self) -> None:
        """Make everything that was added visible."""
        self._due = self._clock() + self._settings.seconds
        if not self._rows:
            return
        batch = self.appends + 1
        appended = commit_rows(self._table, self._rows, run_id=self._run_id, batch=batch, base=self._base)
        self.appends, self.dropped = batch, self.dropped + appended.dropped
        self._rows.clear()
        log.info("version %d: %d rows, %d done elsewhere meanwhile", appended.version, appended.rows, appended.dropped)
        if self.appends % COMPACT_EVERY == 0:
            self._compact(RUNNING_FILE_BYTES)

    def close(self) -> None:
        """Make everything that was added visible; a long run leaves few and large files."""
        self.commit()
        if self.appends >= COMPACT_EVERY:
            self._compact(FILE_BYTES)

    def _compact(self, file_bytes: int) -> None:
        """Put the small files of the last appends together: an append takes longer the more files there are."""
        try:
            compact(self._table, file_bytes=file_bytes)
        except StoreError as failed:  # another run compacts too, or the store forbids it; rows are safe either way
            log.warning("the manifest was not compacted, `pinco manifest compact` can do it later: %s", failed)

    def snapshot(self) -> Counter[str]:
        """Rows so far by status; safe from other threads (the heartbeat's)."""
        with self._lock:
            return self.statuses.copy()
