"""The stage that makes the images: actors, dispatch, the recorder, and what ends it early."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.driver.batch_sizes import BatchSizes
from flows.driver.endings import RunInterruptedError
from flows.driver.interrupts import StopRequest
from flows.driver.ray_session import RaySession
from flows.driver.recorder import Recorder
from flows.driver.schedule import Batch, Schedule
from flows.progress import Watch
from flows.settings import Settings
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.generation.faults import PhotoUnreadableError
from pinco.generation.take import RunSpec, Take, failed_row, in_batches

if TYPE_CHECKING:
    from flows.driver.dispatch import Refusal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """What became of the takes.

    Attributes:
        statuses: Rows made, by status.
        dropped: How many of them another run had finished meanwhile.
        error: What ended the stage early.
        placements: Where the inference actors' weights lie, each line once.
    """

    statuses: Counter[str]
    dropped: int = 0
    error: Exception | None = None
    placements: tuple[str, ...] = ()


def make_images(
    takes: Sequence[Take],
    spec: RunSpec,
    table: ManifestTable,
    base: int,
    settings: Settings,
    session: RaySession,
    watch: Watch,
    unreadable: Mapping[str, str] | None = None,
) -> Made:
    """Every take becomes one row of the manifest, or the stage ends early with what was finished in it.

    Args:
        takes: What to make.
        spec: What all takes have in common.
        table: The manifest.
        base: Its version when the run was planned.
        settings: How the run is carried out.
        session: Ray, which may still be starting.
        watch: Shows the progress.
        unreadable: Ids of jobs whose photo could not be read when the run was planned, with the reason.
    """
    unreadable = unreadable or {}
    lost = [take for take in takes if take.job.job_id in unreadable]
    left = [take for take in takes if take.job.job_id not in unreadable]
    recorder = Recorder(table, spec.run_id, base=base, commit=settings.commit, failures=settings.failures)
    error: Exception | None = None
    placements: dict[str, None] = {}
    try:
        with StopRequest() as stop, watch(recorder.snapshot, len(takes)):
            recorder.add([_unreadable_row(take, spec, unreadable[take.job.job_id]) for take in lost])
            if left:
                session.wait()
                _dispatch(left, spec, settings, session, recorder, stop, placements)
    except Exception as ended:
        log.error("the run ends early: %s", ended)
        error = ended
    recorder.close()
    return Made(recorder.snapshot(), recorder.dropped, error, tuple(placements))


def _unreadable_row(take: Take, spec: RunSpec, reason: str) -> Row:
    error = PhotoUnreadableError(f"The photo cannot be read: {reason}")
    return failed_row(take.job, spec.run_id, error, attempts=1)


def _dispatch(
    takes: Sequence[Take],
    spec: RunSpec,
    settings: Settings,
    session: RaySession,
    recorder: Recorder,
    stop: StopRequest,
    placements: dict[str, None],
) -> None:
    import ray

    from flows.driver.actors import remote_generator, remote_preprocessor  # Ray is imported from here on
    from flows.driver.dispatch import Dispatch, Limits

    gpus = _gpus_each(settings)
    most = settings.ray.max_batch_rows if gpus else settings.ray.batch_rows
    products = [[Batch(rows) for rows in batches] for batches in in_batches(takes, max(most, settings.ray.batch_rows))]
    lanes = min(_lanes(settings, gpus), sum(len(batches) for batches in products))
    overlap = _overlaps(gpus)
    schedule = Schedule(
        products,
        lanes,
        window_rows=settings.ray.window_rows,
        in_flight=settings.ray.in_flight,
        overlap=overlap,
        sizes=BatchSizes(settings.ray.batch_rows, most, hang_seconds=settings.ray.hang_seconds),
        size_of=lambda take: take.job.working_size,
    )
    prompts = ray.put(_texts(takes) if gpus else ())

    def refuse(take: Take, refusal: Refusal) -> Row:
        return failed_row(
            take.job,
            spec.run_id,
            refusal.error,
            attempts=refusal.attempts,
            status=refusal.status,
            kills=refusal.kills,
        )

    def loaded(line: str) -> None:
        log.info("%s", line)
        placements.setdefault(line)

    def tick() -> None:
        session.check()
        recorder.tick()

    Dispatch(
        schedule,
        lanes=lanes,
        make_preparer=lambda: remote_preprocessor(spec, settings.ray),
        make_generator=lambda: remote_generator(
            spec, settings.model, settings.ray, gpus=gpus, overlap=overlap, prompts=prompts
        ),
        refuse=refuse,
        deliver=recorder.add,
        loaded=loaded,
        tick=tick,
        stopping=lambda: stop.wanted,
        limits=Limits(
            preparers=settings.ray.preparers,
            in_flight=settings.ray.in_flight,
            hang_seconds=settings.ray.hang_seconds,
        ),
    ).run()
    if schedule.unresolved:
        raise RunInterruptedError(f"stopped with {schedule.unresolved} images left to make; the next run makes them")


def _gpus_each(settings: Settings) -> float:
    """GPUs per inference actor: the setting's, else one where there are GPUs and the device is not the CPU."""
    if settings.ray.generator_gpus is not None:
        return settings.ray.generator_gpus
    return 1.0 if settings.model.device != "cpu" and _gpus_there() else 0.0


def _overlaps(gpus: float) -> bool:
    """Whether images are finished while the next ones are sampled: on a CPU the two would share it."""
    return gpus > 0


def _texts(takes: Sequence[Take]) -> tuple[str, ...]:
    """Every text that is to be encoded, in the order in which it is first asked for."""
    return tuple(dict.fromkeys(text for take in takes for text in (take.job.prompt, take.job.negative) if text))


def _lanes(settings: Settings, gpus: float) -> int:
    """Inference actors.

    Raises ValueError where this machine lacks the GPUs for them: they would wait for ever (a cluster may grow).
    """
    lanes = settings.ray.generators or (max(1, int(_gpus_there() // gpus)) if gpus else 1)
    if settings.ray.address == "local" and lanes * gpus > _gpus_there():
        raise ValueError(
            f"{lanes} inference actors with {gpus:g} GPUs each are asked for and this machine has {_gpus_there():g}: "
            "lower ray.generators, or set ray.generator_gpus to 0 to pin them to CPUs"
        )
    return lanes


def _gpus_there() -> float:
    import ray

    return float(ray.cluster_resources().get("GPU", 0))
