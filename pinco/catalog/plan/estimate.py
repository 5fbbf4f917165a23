"""How long work will take, judged by what earlier runs took."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime

from pinco.catalog.manifest.readers import recent_images, run_began_with
from pinco.catalog.manifest.table import ManifestTable

_RECENT = 1_000
"""Images that the estimate looks back on: enough to be steady, few enough to forget last year's machine."""

START_UP = 10.0
"""Seconds before the first image where no earlier run says it: Ray's start, the weights, the first photo."""

_LONGEST_START = 3600.0  # a longer one was a pause: of the machine, or of its clock
_RUN_ID = re.compile(r"(\d{8}T\d{6})-[0-9a-f]{6}")


@dataclass(frozen=True)
class Estimate:
    """How long a plan's work will take.

    Attributes:
        images: How many there are to make.
        seconds: Of one worker's work, without the start; None where there is nothing to judge by.
        start_up: Seconds from the command to the first image's begin.
        basis: Earlier images that it rests on.
    """

    images: int
    seconds: float | None
    start_up: float
    basis: int

    def wall_seconds(self, workers: int) -> float | None:
        """Seconds from the command to the last image; None where there is nothing to judge by."""
        return None if self.seconds is None else self.start_up + self.seconds / workers


def estimate_time(table: ManifestTable, images: int) -> Estimate:
    """Median seconds of the last thousand images in the manifest, times the number of images to make.

    The start is measured on the last run: its id says when it began, and its first image when that was finished.
    """
    recent = recent_images(table, _RECENT)
    if not recent:
        return Estimate(images, None, START_UP, 0)
    start_up = _start_up(table, recent[-1].run_id)
    return Estimate(images, images * statistics.median(image.seconds for image in recent), start_up, len(recent))


def in_words(seconds: float) -> str:
    """A duration as precise as an estimate can be: `45 seconds`, `12 minutes`, `3.5 hours`."""
    if seconds < 120:
        whole = max(1, round(seconds))
        return "1 second" if whole == 1 else f"{whole} seconds"
    if seconds < 120 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _start_up(table: ManifestTable, run_id: str) -> float:
    named = _RUN_ID.fullmatch(run_id)
    first = run_began_with(table, run_id)
    if named is None or first is None:
        return START_UP
    try:
        began = datetime.strptime(named[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return START_UP
    took = (first.created_at - began).total_seconds() - first.seconds
    return took if 0 <= took <= _LONGEST_START else START_UP
