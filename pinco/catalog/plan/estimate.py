"""How long work will take, judged by what earlier runs took."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from pinco.catalog.manifest.readers import recent_seconds
from pinco.catalog.manifest.table import ManifestTable

_RECENT = 1_000
"""Images that the estimate looks back on: enough to be steady, few enough to forget last year's machine."""


@dataclass(frozen=True)
class Estimate:
    """seconds: of one machine's work, None where there is nothing to judge by; basis: how many earlier images it rests
    on."""

    images: int
    seconds: float | None
    basis: int


def estimate_time(table: ManifestTable, images: int) -> Estimate:
    """Median seconds of the last thousand images in the manifest, times the number of images to make."""
    recent = recent_seconds(table, _RECENT)
    if not recent:
        return Estimate(images, None, 0)
    return Estimate(images, images * statistics.median(recent), len(recent))
