"""Product against backdrop, at reduced size: labels from colour distance, then GrabCut, holes and components.

GrabCut: Rother, Kolmogorov, Blake, SIGGRAPH 2004 (OpenCV's implementation). The labels, the treatment of shadows and
holes, and the confidence are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.arrays import U8
from preprocessing.backdrop import Backdrop, estimate_backdrop

Bits: TypeAlias = NDArray[np.bool_]

_CROSS = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
_PATCH = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))


@dataclass(frozen=True)
class Silhouette:
    """Which pixels are product `[h, w]`, and how sure that is: 0..1."""

    product: Bits
    confidence: float


def segment(rgb: U8, iterations: int = 3) -> Silhouette:
    """Silhouette of the product in a reduced photo `[h, w, 3]` (longer side of some hundred pixels). Deterministic."""
    backdrop = estimate_backdrop(rgb)
    likely, strong = max(4.0, 3.0 * backdrop.noise), max(10.0, 6.0 * backdrop.noise)
    different = backdrop.distance > likely
    ground = _reachable(~different | _shadow_like(rgb, backdrop), different)
    holes, doubtful = _holes(~ground, backdrop, likely)
    ground |= holes

    labels = np.where(ground, cv2.GC_PR_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    labels[_erode(ground & ~different)] = cv2.GC_BGD
    labels[_erode(~ground & (backdrop.distance > strong))] = cv2.GC_FGD
    labels[doubtful] = cv2.GC_FGD
    product = _without_specks(_grabcut(rgb, labels, iterations) & ~_erode(holes))
    return Silhouette(product, _confidence(product, ~ground, doubtful, backdrop, likely))


def _erode(bits: Bits) -> Bits:
    return np.asarray(cv2.erode(bits.astype(np.uint8), _PATCH, borderType=cv2.BORDER_REPLICATE) > 0)


def _shadow_like(rgb: U8, backdrop: Backdrop) -> Bits:
    """Darker than the backdrop, of its hue, and without an edge: a cast shadow, as far as one pixel can tell."""
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (0, 0), 1.0).astype(np.float32)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8.0, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8.0)
    hue = backdrop.chroma < 4.0 + 2.0 * backdrop.noise
    return np.asarray(hue & (backdrop.darker > 0.0) & (backdrop.darker < 45.0) & (slope < 4.0))


def _reachable(passable: Bits, different: Bits) -> Bits:
    """Passable pixels connected to the border's backdrop: the ground and its shadows, but no flat grey product,
    which an edge separates from the ground."""
    _, regions = cv2.connectedComponents(passable.astype(np.uint8), connectivity=4)
    frame = np.zeros(passable.shape, bool)
    frame[0], frame[-1], frame[:, 0], frame[:, -1] = True, True, True, True
    return np.isin(regions, np.unique(regions[frame & passable & ~different]))


def _holes(product: Bits, backdrop: Backdrop, likely: float) -> tuple[Bits, Bits]:
    """Regions of backdrop colour that the product encloses: those to see through, and those that may as well be print.

    A hole of a handle has a thin rim on one side; a white label lies deep in the product. Between a label and the hole
    of a ring no single photo decides: such a region stays product and costs confidence.
    """
    enclosed = product & (backdrop.distance < likely)
    count, regions, stats, _ = cv2.connectedComponentsWithStats(enclosed.astype(np.uint8), connectivity=4)
    to_outside = cv2.distanceTransform(product.astype(np.uint8), cv2.DIST_L2, 5)
    side = float(np.sqrt(max(int(product.sum()), 1)))
    holes, doubtful = np.zeros_like(product), np.zeros_like(product)
    for region in range(1, count):
        if stats[region, cv2.CC_STAT_AREA] < max(6.0, (0.02 * side) ** 2):
            continue
        where = regions == region
        if to_outside[where].min() < 0.2 * side:
            holes |= where
        else:
            doubtful |= where
    return holes, doubtful


def _grabcut(rgb: U8, labels: U8, iterations: int) -> Bits:
    sure = labels == cv2.GC_FGD
    if not sure.any() or not (labels == cv2.GC_BGD).any():
        return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))
    cv2.setRNGSeed(0)  # GrabCut starts its colour models from random centres
    labels = labels.copy()
    cv2.grabCut(rgb, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), iterations, cv2.GC_INIT_WITH_MASK)
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _without_specks(product: Bits) -> Bits:
    """Keep every component (a pair of shoes) except dust; fill pinholes."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats(product.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count == 1:
        return product
    kept = np.isin(regions, 1 + np.flatnonzero(areas >= max(8.0, 0.01 * float(areas.max()))))
    return np.asarray(cv2.morphologyEx(kept.astype(np.uint8), cv2.MORPH_CLOSE, _CROSS) > 0)


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _confidence(product: Bits, expected: Bits, doubtful: Bits, backdrop: Backdrop, likely: float) -> float:
    """The weakest of five reasons to believe the silhouette."""
    area = float(product.mean())
    if area == 0.0:
        return 0.0
    rim = product & (cv2.erode(product.astype(np.uint8), _CROSS, borderType=cv2.BORDER_REPLICATE, iterations=2) == 0)
    contrast = float(np.quantile(backdrop.distance[rim], 0.15))
    agreement = float((product & expected).sum() / max((product | expected).sum(), 1))
    return min(
        _ramp(backdrop.share, 0.5, 0.85),  # the border is a backdrop
        _ramp(contrast, 0.5 * likely, 3.0 * likely),  # the outline stands out from it nearly everywhere
        _ramp(agreement, 0.5, 0.85),  # two ways to find the product agree
        _ramp(area, 0.0005, 0.005) * _ramp(1.0 - area, 0.02, 0.15),  # it is neither dust nor the whole photo
        1.0 - _ramp(float(doubtful.sum() / product.sum()), 0.0, 0.02) * 0.5,  # what may be a hole is small
    )
