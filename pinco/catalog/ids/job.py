"""A job: one image that was asked for, and the id that stands for asking for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

from pinco.catalog.ids.canonical import canonical_sha256
from preprocessing.canvas import Placement

JOB_RECIPE = 1
"""Raised when the meaning of a job's fields changes, so that old and new ids never stand for different things."""

MAX_SEED = 2**32 - 1
"""Seeds are 32 bit: short enough to type back into a sheet."""

Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True)
class Ask:
    """What was asked of one image: exactly the fields that decide `job_id`.

    A channel's format and quality are not among them: they belong to the file and so to the generation id.
    """

    sku: str
    source_sha256: str
    prompt: str
    negative: str | None
    channel: str
    placement: Placement
    working_size: Size
    delivery_size: Size
    variant: int
    seed: int

    def __post_init__(self) -> None:
        # 1 and 1.0 are one scale, [w, h] and (w, h) one size: they must not make two ids.
        object.__setattr__(self, "placement", _with_floats(self.placement))
        for name in ("working_size", "delivery_size"):
            width, height = getattr(self, name)
            object.__setattr__(self, name, (int(width), int(height)))
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must be between 0 and {MAX_SEED}, not {self.seed}")

    @classmethod
    def from_dict(cls, asked: dict[str, Any]) -> Ask:
        """The inverse of `asked()`, also after a round trip through JSON.

        Raises:
            KeyError, TypeError, ValueError: on missing, unknown or impossible fields.
        """
        return cls(**{**asked, "placement": Placement(**asked["placement"])})

    def asked(self) -> dict[str, Any]:
        """The fields of the ask alone (a Job has more) as plain values."""
        asked = {name: getattr(self, name) for name in _ASKED}
        asked["placement"] = dict(vars(self.placement))
        return asked

    @cached_property
    def job_id(self) -> str:
        """64 hex digits: sha256 of the canonical JSON of every field. The key of resume."""
        return canonical_sha256({"recipe": JOB_RECIPE, "ask": self.asked()})

    @cached_property
    def derived_seed(self) -> int:
        """The seed that follows from all other fields: 32 bits of their hash."""
        rest = self.asked()
        del rest["seed"]
        return int(canonical_sha256({"recipe": JOB_RECIPE, "seed_of": rest})[:8], 16)


_ASKED = tuple(field.name for field in fields(Ask))


def _with_floats(placement: Placement) -> Placement:
    scale, padding = placement.scale, placement.padding
    if isinstance(padding, float) and (scale is None or isinstance(scale, float)):
        return placement
    return Placement(placement.kind, None if scale is None else float(scale), float(padding))


@dataclass(frozen=True)
class Job(Ask):
    """One image to make: an ask, where it stands in the sheet, and where its photo lies.

    Attributes:
        row: 1-based row of the sheet as a spreadsheet shows it (the header is row 1).
        source_uri: Absolute path or s3:// URI of the photo.
    """

    row: int
    source_uri: str

    @classmethod
    def planned(cls, *, seed: int | None, **others: Any) -> Self:
        """The job with this seed, or with the seed that is derived from what is asked where it is None."""
        job = cls(seed=0 if seed is None else seed, **others)
        if seed is None:
            object.__setattr__(job, "seed", job.derived_seed)  # which does not depend on it; a second job costs time
        return job

    @property
    def ask(self) -> Ask:
        """What was asked, without where it came from: for recipes."""
        return Ask(**{name: getattr(self, name) for name in _ASKED})
