"""What is handed to the actors, and how a failed take is recorded. Imports neither torch nor Ray."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from pinco.catalog.delivery.finish import Shadow
from pinco.catalog.ids.job import Job
from pinco.catalog.manifest.schema import Row
from pinco.catalog.quality.decision import QualityRules
from pinco.catalog.sheet.channels import Channel
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess
from pinco.catalog.store.base import Store, StoreError
from pinco.errors import first_line
from pinco.generation.faults import PhotoChangedError, PhotoMissingError, PhotoUnreadableError
from preprocessing.cutout import CutoutRecipe

_TRANSIENT = (StoreError, ConnectionError, TimeoutError, PhotoChangedError, PhotoMissingError, PhotoUnreadableError)


@dataclass(frozen=True)
class Take:
    """One go at a job. `seed` is the seed used: the job's own, or another one when a rejected image is made again."""

    job: Job
    seed: int

    @classmethod
    def first(cls, job: Job) -> Take:
        """With the seed that was asked for."""
        return cls(job, job.seed)

    @classmethod
    def another(cls, job: Job) -> Take:
        """With a seed that follows from the one that was asked for: the same retry asks for the same image."""
        return cls(job, int(hashlib.sha256(f"another:{job.job_id}".encode()).hexdigest()[:8], 16))


@dataclass(frozen=True)
class RunSpec:
    """What all takes of a run have in common. It travels to the actors, so it holds addresses and settings only.

    Attributes:
        run_id: Name of the run.
        store_uri: Where images go.
        channels: The presets that jobs name.
        access: How stores are reached.
        recipe: How photos are cut out.
        shadow: How the ground under the product is shaded.
        rules: How images are judged.
    """

    run_id: str
    store_uri: str
    channels: dict[str, Channel]
    access: StoreAccess = DEFAULT_ACCESS
    recipe: CutoutRecipe = field(default_factory=CutoutRecipe)
    shadow: Shadow = "none"
    rules: QualityRules = field(default_factory=QualityRules)

    def open_store(self) -> Store:
        return self.access.open(self.store_uri)


def canvas_key(job: Job) -> str:
    """Jobs with one key share their canvas and their layer: photo, placement, sizes and channel."""
    return repr((job.source_sha256, job.placement, job.working_size, job.delivery_size, job.channel))


def in_batches(takes: Iterable[Take], rows: int) -> list[list[tuple[Take, ...]]]:
    """For every product the batches of at most `rows` takes of one canvas, all in the sheet's order."""
    products: dict[str, dict[str, list[Take]]] = {}
    for take in takes:
        canvases = products.setdefault(take.job.source_uri, {})
        canvases.setdefault(canvas_key(take.job), []).append(take)
    return [
        [tuple(same[at : at + rows]) for same in canvases.values() for at in range(0, len(same), rows)]
        for canvases in products.values()
    ]


def failed_row(
    job: Job,
    run_id: str,
    error: BaseException,
    *,
    attempts: int,
    status: Literal["failed", "quarantined"] = "failed",
    kills: int = 0,
) -> Row:
    """The row of a job without an image.

    The next run tries again by itself where the store failed, and where the photo was not the planned one: it may have
    come back.
    """
    if status == "quarantined":
        error_type = "worker_died"
        message = (
            f"Making this image ended {kills} workers, each time with nothing else asked of them. "
            f"It is set aside until `pinco retry`. The last one: {first_line(error)}"
        )
    else:
        error_type = str(getattr(error, "code", type(error).__name__))
        message = str(error).strip() or type(error).__name__
    return Row.of(
        job,
        run_id=run_id,
        status=status,
        attempts=max(attempts, 1),
        error_type=error_type,
        error_message=message,
        transient=status == "failed" and isinstance(error, _TRANSIENT),
    )
