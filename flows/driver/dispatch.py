"""The driver's loop: it owns the actors, asks them, and decides what a dead one means.

Ray never restarts or retries anything here (`max_restarts=0, max_task_retries=0`): whether a row is asked again is
decided by `Schedule`, which knows which row may have killed its actor and which merely stood behind it. The loop is
generic in the job and result types; what the actors compute is no concern of it.

An actor of the first kind answers `prepare(rows)` with two objects, a small status and the canvas, so that the driver
never pulls pixels. One of the second kind answers `load()` once and then `generate(rows, canvas, attempts)` with
one result per row, in order, each of them durably written before it returns. It may work on two such calls at once, the
images of the first being finished while the second is sampled; calls are settled in the order in which they were made.
"""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import ray
from ray.exceptions import ObjectLostError, RayError, RayTaskError

from flows.driver.endings import NoWorkersLeftError
from flows.driver.schedule import Batch, Schedule
from pinco.errors import first_line
from pinco.generation.faults import AcceleratorFaultError, DeviceMemoryError

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Refusal:
    """Why a row ends without an image: `error` is the actor's own exception, or what Ray said of its death."""

    status: Literal["failed", "quarantined"]
    error: BaseException
    attempts: int
    kills: int = 0


@dataclass(frozen=True)
class Limits:
    """Bounds of the loop, in seconds where they are times."""

    preparers: int = 1
    in_flight: int = 2
    start_failures: int = 3  # in a row, before a lane, or a place of a preprocessing actor, is given up
    hang_seconds: float = 1800.0  # a batch that runs longer than this is taken for a dead actor
    poll_seconds: float = 0.5


@dataclass
class _Call:
    ref: Any
    lane: int
    batch: Batch[Any]
    canvas: Any = None


@dataclass(eq=False)
class _Seat:
    """One actor and the calls it has been given, oldest first: only the first of them can be running."""

    actor: Any
    loading: Any = None
    calls: deque[_Call] = field(default_factory=deque)
    head_since: float = field(default_factory=time.monotonic)
    failures: int = 0
    suspect: tuple[int, Batch[Any]] | None = None  # lane and batch that a preprocessing actor is asked for first, alone

    def pop(self) -> _Call:
        self.head_since = time.monotonic()
        return self.calls.popleft()

    def push(self, call: _Call) -> None:
        if not self.calls:
            self.head_since = time.monotonic()
        self.calls.append(call)


class Dispatch(Generic[Job, Result]):
    """Runs a `Schedule` to its end on Ray actors.

    Args:
        schedule: What is to be done.
        lanes: Number of inference actors.
        make_preparer: Starts a preprocessing actor.
        make_generator: Starts an inference actor.
        refuse: Turns a job that ends without an image into its result.
        deliver: Takes finished results, in the driver.
        loaded: Takes what an actor's `load` returned.
        tick: Called at least every `poll_seconds`.
        stopping: Asked between steps; True ends the loop early and leaves unfinished rows unresolved.
        limits: Bounds of the loop.

    Raises:
        NoWorkersLeftError: No actor of one kind can be started. What `deliver`, `tick` and the actors' `load` raise
            passes through as well.
    """

    def __init__(
        self,
        schedule: Schedule[Job],
        *,
        lanes: int,
        make_preparer: Callable[[], Any],
        make_generator: Callable[[], Any],
        refuse: Callable[[Job, Refusal], Result],
        deliver: Callable[[Sequence[Result]], None],
        loaded: Callable[[Any], None] = lambda said: None,
        tick: Callable[[], None] = lambda: None,
        stopping: Callable[[], bool] = lambda: False,
        limits: Limits = Limits(),
    ) -> None:
        self._schedule = schedule
        self._make_preparer, self._make_generator = make_preparer, make_generator
        self._refuse, self._deliver, self._tick, self._stopping = refuse, deliver, tick, stopping
        self._loaded = loaded
        self._limits = limits
        self._preparers = [self._start_preparer() for _ in range(limits.preparers)]
        self._generators: list[_Seat | None] = [self._start_generator() for _ in range(lanes)]

    def run(self) -> None:
        """Until every row is resolved or `stopping()`; the actors are killed on the way out, however it ends."""
        try:
            while self._schedule.unresolved and not self._stopping():
                self._fill()
                ready, _ = ray.wait(self._heads(), num_returns=1, timeout=self._limits.poll_seconds)
                for ref in ready:
                    self._settle(ref)
                self._end_hung()
                self._tick()
        finally:
            for seat in [*self._preparers, *self._generators]:
                if seat is not None:
                    with contextlib.suppress(RayError):  # Ray itself may be gone, and its actors with it
                        ray.kill(seat.actor)

    # -- asking ------------------------------------------------------------------------------------------------------

    def _start_preparer(self, failures: int = 0) -> _Seat:
        actor = self._make_preparer()
        return _Seat(actor, loading=actor.__ray_ready__.remote(), failures=failures)

    def _start_generator(self, failures: int = 0) -> _Seat:
        actor = self._make_generator()
        return _Seat(actor, loading=actor.load.remote(), failures=failures)

    def _fill(self) -> None:
        while seats := [seat for seat in self._preparers if self._takes_more(seat)]:
            if (task := self._schedule.next_to_prepare()) is None:
                break
            self._ask_to_prepare(min(seats, key=lambda seat: len(seat.calls)), *task)
        for lane, generator in enumerate(self._generators):
            if generator is None or generator.loading is not None:
                continue
            while (run := self._schedule.next_to_run(lane)) is not None:
                ref = generator.actor.generate.remote(run.rows, run.canvas, run.attempts)
                generator.push(_Call(ref, lane, run))

    def _takes_more(self, preparer: _Seat) -> bool:
        """Whether a preprocessing actor can be asked for one more; nothing goes behind a batch that is suspected."""
        suspects = any(call.batch.suspect for call in preparer.calls)
        return preparer.loading is None and len(preparer.calls) < self._limits.in_flight and not suspects

    @staticmethod
    def _ask_to_prepare(preparer: _Seat, lane: int, batch: Batch[Any]) -> None:
        status, canvas = preparer.actor.prepare.options(num_returns=2).remote(batch.rows)
        preparer.push(_Call(status, lane, batch, canvas))

    def _heads(self) -> list[Any]:
        heads = []
        for seat in [*self._preparers, *self._generators]:
            if seat is not None and seat.loading is not None:
                heads.append(seat.loading)
            elif seat is not None and seat.calls:
                heads.append(seat.calls[0].ref)
        return heads

    # -- answers -----------------------------------------------------------------------------------------------------

    def _settle(self, ref: Any) -> None:
        for preparer in self._preparers:
            if preparer.loading is not None:
                if preparer.loading == ref:
                    return self._settle_started(preparer)
            elif preparer.calls and preparer.calls[0].ref == ref:
                return self._settle_prepared(preparer)
        for lane, seat in enumerate(self._generators):
            if seat is not None and seat.loading == ref and seat.loading is not None:
                return self._settle_loaded(lane, seat)
            if seat is not None and seat.calls and seat.calls[0].ref == ref:
                return self._settle_generated(lane, seat)

    def _settle_prepared(self, seat: _Seat) -> None:
        call = seat.calls[0]
        try:
            ray.get(call.ref)
        except RayTaskError as error:
            seat.pop()
            self._schedule.unprepared(call.lane, call.batch)
            self._end_rows(call.batch, "failed", _cause(error))
        except RayError as error:
            log.warning("a preprocessing actor died: %s", first_line(error))
            self._replace_preparer(seat, error)
        else:
            seat.pop()
            self._schedule.prepared(call.lane, call.batch, call.canvas)

    def _settle_started(self, seat: _Seat) -> None:
        try:
            ray.get(seat.loading)
        except RayError as error:
            self._replace_preparer(seat, error)
        else:
            seat.loading = None
            if seat.suspect is not None:
                self._ask_to_prepare(seat, *seat.suspect)

    def _replace_preparer(self, seat: _Seat, error: BaseException) -> None:
        """The actor died or is to be left: the head of its queue is suspect, what stood behind it is not."""
        ray.kill(seat.actor)
        failures = seat.failures + 1 if seat.loading is not None else 0
        if failures >= self._limits.start_failures:
            return self._give_up_preparer(seat, error)
        fresh = self._start_preparer(failures)
        self._preparers[self._preparers.index(seat)] = fresh
        if seat.loading is not None:
            fresh.suspect = seat.suspect
            return None
        head, *behind = seat.calls
        for call in reversed(behind):
            self._schedule.not_prepared(call.lane, call.batch)
        if self._schedule.preparer_died(head.lane, head.batch, alone=not behind):
            self._end_rows(head.batch, "quarantined", error)
        else:
            fresh.suspect = (head.lane, head.batch)
        return None

    def _give_up_preparer(self, seat: _Seat, error: BaseException) -> None:
        self._preparers.remove(seat)
        if not self._preparers:
            raise NoWorkersLeftError(f"no preprocessing actor could be started; the last one said: {first_line(error)}")
        if seat.suspect is not None:
            self._schedule.not_prepared(*seat.suspect)

    def _settle_loaded(self, lane: int, seat: _Seat) -> None:
        try:
            self._loaded(ray.get(seat.loading))
        except RayTaskError as error:
            cause = _cause(error)
            if not isinstance(cause, AcceleratorFaultError):
                raise cause from error
            self._replace_generator(lane, seat, cause)
        except RayError as error:
            self._replace_generator(lane, seat, error)
        else:
            seat.loading = None
            seat.head_since = time.monotonic()

    def _settle_generated(self, lane: int, seat: _Seat) -> None:
        call = seat.calls[0]
        try:
            results = ray.get(call.ref)
        except ObjectLostError as error:
            seat.pop()
            if not self._schedule.canvas_lost(lane, call.batch):
                self._fail(lane, call.batch, error)
        except RayTaskError as error:
            cause = _cause(error)
            if isinstance(cause, AcceleratorFaultError):
                self._replace_generator(lane, seat, cause, by_head=True)
                return
            seat.pop()
            smaller = self._schedule.exceeded(call.batch) if isinstance(cause, DeviceMemoryError) else 1
            if not self._schedule.ask_again(lane, call.batch, smaller):
                self._fail(lane, call.batch, cause)
        except RayError as error:
            self._replace_generator(lane, seat, error)
        else:
            self._schedule.fitted(call.batch, time.monotonic() - seat.head_since)
            seat.pop()
            seat.failures = 0
            self._schedule.finished(lane, call.batch)
            self._deliver(results)

    def _replace_generator(self, lane: int, seat: _Seat, error: BaseException, *, by_head: bool = False) -> None:
        """The actor died or is to be left; whom to suspect is the schedule's to say."""
        ray.kill(seat.actor)
        failures = seat.failures + 1 if seat.loading is not None else 0
        log.warning("inference actor of lane %d is gone (%s)", lane, first_line(error))
        quarantined = self._schedule.actor_died(lane, by_head=by_head)
        if failures < self._limits.start_failures:
            self._generators[lane] = self._start_generator(failures)
        else:
            self._generators[lane] = None
            if not self._schedule.close_lane(lane):
                raise NoWorkersLeftError(f"no inference actor could be started; the last one said: {first_line(error)}")
        if quarantined is not None:
            self._end_rows(quarantined, "quarantined", error)

    def _end_hung(self) -> None:
        """An actor that has not answered for too long is as good as dead, whether it computes, prepares or loads."""
        oldest = time.monotonic() - self._limits.hang_seconds
        silence = AcceleratorFaultError(f"no answer for {self._limits.hang_seconds:.0f} s")
        for preparer in list(self._preparers):
            if (preparer.calls or preparer.loading is not None) and preparer.head_since < oldest:
                self._replace_preparer(preparer, silence)
        for lane, seat in enumerate(self._generators):
            if seat is not None and (seat.calls or seat.loading is not None) and seat.head_since < oldest:
                self._replace_generator(lane, seat, silence)

    def _fail(self, lane: int, batch: Batch[Job], error: BaseException) -> None:
        self._schedule.finished(lane, batch)
        self._end_rows(batch, "failed", error)

    def _end_rows(self, batch: Batch[Job], status: Literal["failed", "quarantined"], error: BaseException) -> None:
        attempts, kills = max(batch.attempts, batch.prepare_kills), max(batch.kills, batch.prepare_kills)
        refusal = Refusal(status, error, attempts, kills)
        self._deliver([self._refuse(row, refusal) for row in batch.rows])


def _cause(error: RayTaskError) -> BaseException:
    """The actor's own exception, without Ray's remote traceback around it."""
    return error.cause if isinstance(error.cause, BaseException) else error
