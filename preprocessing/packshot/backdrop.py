"""The backdrop of a packshot: the photo without its product, estimated from the photo's border."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.arrays import F32, U8


@dataclass(frozen=True)
class Backdrop:
    """A smooth backdrop in CIE Lab, and the photo's difference from it.

    Attributes:
        fitted: `[h, w, 3]`, the backdrop's colour.
        difference: `[h, w, 3]`, the photo's colour minus the backdrop's.
        distance: `[h, w]`, colour difference (CIE 1976) of every pixel from the backdrop at its position.
        chroma: `[h, w]`, the part of it in a and b.
        darker: `[h, w]`, how much darker than the backdrop, in L.
        noise: Median difference of the border pixels that belong to the backdrop, in the same units.
        share: Share of the border that belongs to the backdrop, 0..1. Low where the product, or a room, reaches the
            border.
    """

    fitted: F32
    difference: F32
    distance: F32
    chroma: F32
    darker: F32
    noise: float
    share: float


def estimate_backdrop(rgb: U8) -> Backdrop:
    """Fit each Lab channel of the border by a quadratic in x and y (a backdrop has a gradient and a vignette).

    Border pixels that the fit does not explain are left out and the fit is repeated, so that a product that touches the
    border does not change it.

    Args:
        rgb: `[h, w, 3]`, the reduced photo.
    """
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab)
    height, width = rgb.shape[:2]
    yy, xx = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(xx), xx, yy, xx * xx, xx * yy, yy * yy], axis=-1)

    frame = np.zeros((height, width), bool)
    depth = max(2, round(0.03 * max(height, width)))
    frame[:depth], frame[-depth:], frame[:, :depth], frame[:, -depth:] = True, True, True, True
    colours, design = lab[frame], terms[frame]

    residual = np.linalg.norm(colours - _mode(colours), axis=1)
    limit = 12.0
    for _ in range(4):
        inside = residual < limit
        if inside.sum() < 0.05 * len(inside):
            inside = residual <= np.quantile(residual, 0.5)
        solution = np.linalg.lstsq(design[inside].astype(np.float64), colours[inside].astype(np.float64), rcond=None)[0]
        residual = np.linalg.norm(colours - design @ solution, axis=1)
        limit = float(np.clip(5.0 * np.median(residual[inside]), 4.0, 12.0))
    inside = residual < limit

    fitted = np.asarray(terms @ solution.astype(np.float32), np.float32)
    difference = np.asarray(lab - fitted, np.float32)
    return Backdrop(
        fitted=fitted,
        difference=difference,
        distance=np.linalg.norm(difference, axis=2).astype(np.float32),
        chroma=np.linalg.norm(difference[..., 1:], axis=2).astype(np.float32),
        darker=np.asarray(-difference[..., 0], np.float32),
        noise=float(np.median(residual[inside])) if inside.any() else limit,
        share=float(inside.mean()),
    )


def _mode(colours: F32) -> F32:
    """The most frequent colour, to 8 Lab units: unlike a median it occurs in the border."""
    cells = np.floor(colours / 8.0).astype(np.int64)
    _, member, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(colours[member.ravel() == int(count.argmax())].mean(axis=0), np.float32)
