"""Measures of a raw image against its subject. All arrays are uint8."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from pinco.catalog.quality.measures import extension, psnr, shrinkage
from preprocessing.arrays import U8

MAX_PSNR = 99.0
"""dB; stands for equal pixels in tables and JSON, which have no infinity."""


@dataclass(frozen=True)
class SubjectMeasures:
    """How well one raw image kept its subject.

    Attributes:
        extension: area outside the mask over the mask's area (arXiv 2404.10157), as the segmenter sees it.
        shrinkage: area of the mask where the segmenter sees no product, over the mask's area.
        psnr: dB against the source inside the mask, at most `MAX_PSNR`.
    """

    extension: float
    shrinkage: float
    psnr: float


def measure_subject(raw: U8, found: U8, source: U8, alpha: U8) -> SubjectMeasures:
    """Measure one raw image.

    Args:
        raw: `[H, W, 3]`, before anything is pasted.
        found: `[H, W]`, the mask that a segmenter finds in `raw` without knowing `alpha`.
        source: `[H, W, 3]`, the true product pixels.
        alpha: `[H, W]`, the true mask.

    Raises:
        ValueError: `alpha` has no opaque pixel, or the shapes differ.
    """
    kept = min(MAX_PSNR, psnr(raw, source, alpha))
    return SubjectMeasures(extension(alpha, found), shrinkage(alpha, found), kept)


def medians(measures: list[SubjectMeasures]) -> SubjectMeasures:
    """The median of each figure over several images."""
    return SubjectMeasures(*(median(getattr(m, name) for m in measures) for name in ("extension", "shrinkage", "psnr")))
