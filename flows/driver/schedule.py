"""Which batch goes where: the bookkeeping of a run, with no Ray in it.

A *batch* is a few jobs that share one canvas. It is prepared once on a CPU actor and then asked, as a whole, of one
inference actor. A *lane* is the place of one inference actor; when the actor dies another one takes its lane.

The rules that a run lives by:

* Batches of one product stay on one lane, so that the actor's canvas cache is used; only a lane with nothing left
  to do takes work from another.
* A lane holds at most `window_rows` rows beyond what waits in the sheet, so that memory does not grow with the run.
* An actor runs one batch at a time and has one more queued. When it dies, the head batch is suspected, and the queued
  one goes back without a mark. It may have been the queued one all the same: an answer is lost with an actor that dies
  right after it (in one of six deaths on an idle machine).
* With `overlap` an actor begins with the second batch while it finishes the images of the first. When it dies, either
  can be the reason: both are asked again row by row.
* So a suspect is asked again with nothing before it and nothing behind it, and only then an actor's death is certainly
  its own. A row that has ended `lone_kills` actors in this way is given up.
* A suspected batch of several rows is split first, so that its rows are judged one by one.
* A batch is cut to the number of rows that fit, by what was learned of its size (`BatchSizes`).
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from flows.driver.batch_sizes import BatchSizes

T = TypeVar("T")


@dataclass(eq=False)
class Batch(Generic[T]):
    """Rows that share one canvas; `canvas` is whatever the preprocessing stage hands on (None until then)."""

    rows: tuple[T, ...]
    canvas: Any = None
    attempts: int = 0  # times an inference actor began with it
    suspect: bool = False  # an actor died that may have been asked for it
    kills: int = 0  # actors that certainly died of it, a single row
    prepare_kills: int = 0  # preprocessing actors that died while they were asked for its photo alone
    losses: int = 0  # times its canvas was lost together with a node

    def split(self, size: int) -> list["Batch[T]"]:
        """The same rows in batches of `size`, sharing the canvas and the count of attempts."""
        return [replace(self, rows=self.rows[at : at + size]) for at in range(0, len(self.rows), size)]


@dataclass
class _Lane(Generic[T]):
    open: bool = True
    claimed: deque[Batch[T]] = field(default_factory=deque)  # its products' batches, not yet prepared
    preparing: list[Batch[T]] = field(default_factory=list)
    ready: deque[Batch[T]] = field(default_factory=deque)
    running: deque[Batch[T]] = field(default_factory=deque)

    def held(self) -> Iterator[Batch[T]]:
        yield from self.preparing
        yield from self.ready
        yield from self.running


class Schedule(Generic[T]):
    """State of all unfinished batches of a run. `products` yields, for every product, its batches in order."""

    def __init__(
        self,
        products: Iterable[Sequence[Batch[T]]],
        lanes: int,
        *,
        window_rows: int,
        in_flight: int = 2,
        lone_kills: int = 2,
        overlap: bool = False,
        sizes: BatchSizes | None = None,
        size_of: Callable[[T], Hashable] = lambda row: None,
    ) -> None:
        self._unclaimed: deque[Sequence[Batch[T]]] = deque(batches for batches in products if batches)
        self._lanes: list[_Lane[T]] = [_Lane() for _ in range(lanes)]
        self._window_rows = window_rows
        self._in_flight = in_flight
        self._lone_kills = lone_kills
        self._overlap = overlap
        self._sizes, self._size_of = sizes, size_of
        self.unresolved = sum(len(batch.rows) for batches in self._unclaimed for batch in batches)

    # -- what to start next ------------------------------------------------------------------------------------------

    def next_to_prepare(self) -> tuple[int, Batch[T]] | None:
        """The batch whose photo should be prepared now and the lane it is for, or None while all windows are full."""
        for index in sorted(range(len(self._lanes)), key=self._rows_held):
            lane = self._lanes[index]
            if not lane.open or self._rows_held(index) >= self._window_rows:
                continue
            if (batch := self._claim(lane)) is not None:
                lane.preparing.append(batch)
                return index, batch
        return None

    def next_to_run(self, index: int) -> Batch[T] | None:
        """The batch that the actor of lane `index` should be asked for now, or None."""
        lane = self._lanes[index]
        if len(lane.running) >= self._in_flight or any(batch.suspect for batch in lane.running):
            return None
        if not lane.ready and not self._take_ready(lane):
            return None
        if lane.running and lane.ready[0].suspect:
            return None  # it waits until it can run with nothing before it and nothing behind it
        batch = self._cut(lane, lane.ready.popleft())
        batch.attempts += 1
        lane.running.append(batch)
        return batch

    # -- what came of it ---------------------------------------------------------------------------------------------

    def prepared(self, index: int, batch: Batch[T], canvas: Any) -> None:
        """The canvas of `batch` is there."""
        self._lanes[index].preparing.remove(batch)
        batch.canvas, batch.suspect = canvas, False
        self._lanes[index].ready.append(batch)

    def unprepared(self, index: int, batch: Batch[T]) -> None:
        """The photo cannot be prepared; its rows are resolved by the caller."""
        self._lanes[index].preparing.remove(batch)
        self._resolve(batch)

    def preparer_died(self, index: int, batch: Batch[T], *, alone: bool) -> bool:
        """A preprocessing actor died with `batch` at the head of its queue, or `alone` in it.

        All rows of a batch share the photo, so the batch is judged as one.

        Returns:
            True when its rows are to be quarantined; otherwise it is still being prepared, and is to be asked of
            another actor, with nothing behind it.
        """
        batch.suspect = True
        batch.prepare_kills += alone
        if batch.prepare_kills < self._lone_kills:
            return False
        self._lanes[index].preparing.remove(batch)
        self._resolve(batch)
        return True

    def not_prepared(self, index: int, batch: Batch[T]) -> None:
        """The actor that was asked for `batch` is gone, and never came to it."""
        lane = self._lanes[index]
        lane.preparing.remove(batch)
        lane.claimed.appendleft(batch)

    def finished(self, index: int, batch: Batch[T]) -> None:
        """Every row of `batch` is resolved: durably written, or failed for a reason of its own."""
        self._lanes[index].running.remove(batch)
        self._resolve(batch)

    def actor_died(self, index: int, *, by_head: bool = False) -> Batch[T] | None:
        """The actor of a lane is gone.

        Args:
            index: Of the lane.
            by_head: It said itself that the head batch was the reason.

        Returns:
            The single row that has to be quarantined for it, if any.
        """
        lane = self._lanes[index]
        running, lane.running = list(lane.running), deque()
        begun = 2 if self._overlap and not by_head else 1
        suspects, behind = running[:begun], running[begun:]
        for sibling in reversed(behind):
            sibling.attempts -= 1
            lane.ready.appendleft(sibling)
        if not suspects:
            return None
        head = suspects[0]
        if len(suspects) > 1 or len(head.rows) > 1:
            rows = [row for batch in suspects for row in batch.split(1)]
            lane.ready.extend(replace(row, suspect=True) for row in rows)
            return None
        head.suspect = True
        head.kills += by_head or len(running) == 1
        if head.kills >= self._lone_kills:
            self._resolve(head)
            return head
        lane.ready.append(head)
        return None

    def fitted(self, batch: Batch[T], seconds: float) -> None:
        """All rows of a batch were made at once, in so many seconds."""
        if self._sizes is not None:
            self._sizes.fitted(self._size_of(batch.rows[0]), len(batch.rows), seconds)

    def exceeded(self, batch: Batch[T]) -> int:
        """A batch did not fit into memory; returns how many of its rows may."""
        rows = len(batch.rows)
        if self._sizes is None:
            return (rows + 1) // 2
        return self._sizes.exceeded(self._size_of(batch.rows[0]), rows)

    def ask_again(self, index: int, batch: Batch[T], size: int) -> bool:
        """Ask the rows of a running batch again, `size` at a time; False when that is no smaller than it was."""
        if size >= len(batch.rows):
            return False
        lane = self._lanes[index]
        lane.running.remove(batch)
        lane.ready.extendleft(reversed(batch.split(size)))
        return True

    def canvas_lost(self, index: int, batch: Batch[T], *, limit: int = 3) -> bool:
        """The node that held the canvas is gone: prepare it again; False after `limit` losses."""
        batch.losses += 1
        if batch.losses >= limit:
            return False
        lane = self._lanes[index]
        lane.running.remove(batch)
        batch.canvas = None
        batch.attempts -= 1
        lane.claimed.appendleft(batch)
        return True

    def close_lane(self, index: int) -> bool:
        """No actor can be had for this lane any more; its work goes to the others. False when it was the last one."""
        lane = self._lanes[index]
        lane.open = False
        if lane.claimed:
            self._unclaimed.appendleft(list(lane.claimed))
            lane.claimed.clear()
        return any(other.open for other in self._lanes)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _rows_held(self, index: int) -> int:
        return sum(len(batch.rows) for batch in self._lanes[index].held())

    def _cut(self, lane: _Lane[T], batch: Batch[T]) -> Batch[T]:
        """The first rows of a batch, as many as fit; the others stay at the head of the lane."""
        limit = self._sizes.limit(self._size_of(batch.rows[0])) if self._sizes is not None else len(batch.rows)
        if len(batch.rows) <= limit:
            return batch
        lane.ready.appendleft(replace(batch, rows=batch.rows[limit:]))
        return replace(batch, rows=batch.rows[:limit])

    def _resolve(self, batch: Batch[T]) -> None:
        self.unresolved -= len(batch.rows)

    def _claim(self, lane: _Lane[T]) -> Batch[T] | None:
        if not lane.claimed and self._unclaimed:
            lane.claimed.extend(self._unclaimed.popleft())
        if lane.claimed:
            return lane.claimed.popleft()
        if sum(1 for _ in lane.held()) >= self._in_flight:
            return None  # busy enough: another product's canvas is better left where its cache is
        victim = max(self._lanes, key=lambda other: len(other.claimed))
        return victim.claimed.pop() if victim.claimed else None

    def _take_ready(self, lane: _Lane[T]) -> bool:
        """At the tail, an idle lane takes a prepared batch that waits behind another lane's actor."""
        if lane.claimed or lane.running or lane.preparing or self._unclaimed:
            return False
        victim = max(self._lanes, key=lambda other: len(other.ready))
        if not victim.ready:
            return False
        lane.ready.append(victim.ready.pop())
        return True
