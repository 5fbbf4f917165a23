"""Product against backdrop, at reduced size: labels from colour distance, then GrabCut, holes and components.

GrabCut: Rother, Kolmogorov, Blake, SIGGRAPH 2004 (OpenCV's implementation). The labels, the treatment of shadows and
holes (`shadow.py`, `holes.py`), and the confidence are specific to this package.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.arrays import U8, Bits
from preprocessing.packshot.backdrop import Backdrop, estimate_backdrop
from preprocessing.packshot.holes import find_holes
from preprocessing.packshot.morphology import at_border, close, dilate, erode, fill, rim
from preprocessing.packshot.shadow import edges, ground_of, shadow_like, without_contact_shadow
from preprocessing.packshot.spread import spread


@dataclass(frozen=True)
class Silhouette:
    """The product of a reduced photo.

    Attributes:
        product: `[h, w]`.
        confidence: 0..1.
    """

    product: Bits
    confidence: float


def segment(rgb: U8, iterations: int = 3) -> Silhouette:
    """Silhouette of the product in a reduced photo. Deterministic.

    Args:
        rgb: `[h, w, 3]`, longer side of some hundred pixels.
        iterations: Of GrabCut.
    """
    backdrop = estimate_backdrop(rgb)
    if backdrop.share < 0.5:
        guess = _without_specks(_grabcut(rgb, _central(rgb.shape[:2]), 2 * iterations))
        return Silhouette(~at_border(~guess), 0.0)  # a guess has no holes: there is no backdrop to compare them with
    likely, strong = max(4.0, 3.0 * backdrop.noise), max(10.0, 6.0 * backdrop.noise)
    different = backdrop.distance > likely
    shadow = shadow_like(rgb, backdrop)
    ground = ground_of(~different, shadow)
    holes, doubtful = find_holes(~ground, shadow, backdrop, likely)
    ground |= holes

    labels = np.where(ground, cv2.GC_PR_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    labels[erode(ground & ~different)] = cv2.GC_BGD
    labels[erode(~ground & (backdrop.distance > strong))] = cv2.GC_FGD
    labels[doubtful] = cv2.GC_FGD
    # GrabCut uses colour alone and removes white print too: inside, only the holes found above are removed.
    product = fill(_grabcut(rgb, labels, iterations) & ~erode(holes), holes)
    product = _without_specks(without_contact_shadow(rgb, product, backdrop))
    return Silhouette(product, _confidence(rgb, product, ~ground, doubtful, backdrop, likely))


def _central(shape: tuple[int, ...]) -> U8:
    """Labels for a photo without a backdrop: the border is background, the product is somewhere in the middle."""
    yy, xx = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    labels = np.where(xx * xx + yy * yy < 0.64, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[np.maximum(abs(xx), abs(yy)) > 0.96] = cv2.GC_BGD
    labels[xx * xx + yy * yy < 0.01] = cv2.GC_FGD
    return labels


def _grabcut(rgb: U8, labels: U8, iterations: int) -> Bits:
    sure = labels == cv2.GC_FGD
    if not sure.any() or not (labels == cv2.GC_BGD).any():
        return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))
    cv2.setRNGSeed(0)  # GrabCut starts its colour models from random centres
    labels = labels.copy()
    cv2.grabCut(rgb, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), iterations, cv2.GC_INIT_WITH_MASK)
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _without_specks(product: Bits) -> Bits:
    """Keep every component (a pair of shoes) except specks; fill small gaps."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats(product.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count == 1:
        return product
    kept = np.isin(regions, 1 + np.flatnonzero(areas >= max(8.0, 0.01 * float(areas.max()))))
    return close(kept)


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _confidence(rgb: U8, product: Bits, expected: Bits, doubtful: Bits, backdrop: Backdrop, likely: float) -> float:
    """The lowest of six measures of how reliable the silhouette is, 0..1."""
    area = float(product.mean())
    if area in (0.0, 1.0):
        return 0.0
    agreement = float((product & expected).sum() / (product | expected).sum())
    return min(
        _ramp(backdrop.share, 0.5, 0.85),  # the border is a backdrop
        _ramp(_outline_contrast(rgb, product), likely, 2.5 * likely),  # there is an edge nearly all along the outline
        _ramp(agreement, 0.5, 0.85),  # two ways to find the product agree
        _ramp(area, 0.0005, 0.005) * _ramp(1.0 - area, 0.02, 0.15),  # it is neither a speck nor the whole photo
        1.0 - _ramp(float(doubtful.sum() / product.sum()), 0.0, 0.02) * 0.5,  # what may be a hole is small
        1.0 - _ramp(_edges_left_out(rgb, product, backdrop, likely), 0.01, 0.04) * 0.5,  # no part was left out
    )


def _edges_left_out(rgb: U8, product: Bits, backdrop: Backdrop, likely: float) -> float:
    """Sharp edges that are neither backdrop nor near the product, as a share of its outline.

    The background has none: such an edge belongs to a part (a grey stem, a white foot) that was taken for a shadow.
    """
    clear = product
    for _ in range(4):
        clear = dilate(clear)
    return float((edges(rgb) & ~clear & (backdrop.distance > likely)).sum() / rim(product).sum())


def _outline_contrast(rgb: U8, product: Bits) -> float:
    """Colour difference (CIE 1976) between the two sides of the outline, at its weaker places: the 15 % quantile."""
    lab = np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab), np.float32)
    inner, outer = erode(product), erode(~product)
    step = np.linalg.norm(spread(lab, inner.astype(np.float32)) - spread(lab, outer.astype(np.float32)), axis=2)
    return float(np.quantile(step[rim(product)], 0.15))
