"""Measures of a raw image against the subject it was made for. All arrays are uint8."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import numpy as np

from pinco.catalog.quality import extension, shrinkage
from preprocessing.arrays import U8


def psnr(picture: U8, truth: U8, where: U8 | None = None) -> float:
    """Peak signal-to-noise ratio in dB, `10 log10(255^2 / MSE)`, at most 99.

    Args:
        picture: `[H, W, 3]`.
        truth: `[H, W, 3]`.
        where: `[H, W]`; only its fully opaque pixels (255) count. None counts all.

    Raises:
        ValueError: `where` has no opaque pixel, or the shapes differ.
    """
    if picture.shape != truth.shape:
        raise ValueError(f"cannot compare a picture of {picture.shape} with one of {truth.shape}")
    error = (picture.astype(np.float64) - truth.astype(np.float64)) ** 2
    if where is not None:
        inside = where == 255
        if not inside.any():
            raise ValueError("the mask has no opaque pixel to compare")
        error = error[inside]
    return float(min(99.0, 10 * np.log10(255**2 / max(error.mean(), 1e-12))))


@dataclass(frozen=True)
class SubjectMeasures:
    """What became of the subject in one raw image.

    Attributes:
        extension: area outside the mask over the mask's area (arXiv 2404.10157), as the segmenter sees it.
        shrinkage: area of the mask where the segmenter sees no product, over the mask's area.
        psnr: dB against the source inside the mask.
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
    """
    return SubjectMeasures(extension(alpha, found), shrinkage(alpha, found), psnr(raw, source, alpha))


def medians(measures: list[SubjectMeasures]) -> SubjectMeasures:
    return SubjectMeasures(*(median(getattr(m, name) for m in measures) for name in ("extension", "shrinkage", "psnr")))
