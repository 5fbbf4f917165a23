"""Product against backdrop, at reduced size: labels from colour distance, then GrabCut, holes and components.

GrabCut: Rother, Kolmogorov, Blake, SIGGRAPH 2004 (OpenCV's implementation). The labels, the treatment of shadows and
holes, and the confidence are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.arrays import U8, Bits
from preprocessing.backdrop import Backdrop, estimate_backdrop
from preprocessing.spread import spread

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
    if backdrop.share < 0.5:
        guess = _without_specks(_grabcut(rgb, _central(rgb.shape[:2]), 2 * iterations))
        return Silhouette(~_at_border(~guess), 0.0)  # a guess has no holes: nothing says what shows through one
    likely, strong = max(4.0, 3.0 * backdrop.noise), max(10.0, 6.0 * backdrop.noise)
    different = backdrop.distance > likely
    shadow = _shadow_like(rgb, backdrop)
    ground = _ground(~different, shadow)
    holes, doubtful = _holes(~ground, shadow, backdrop, likely)
    ground |= holes

    labels = np.where(ground, cv2.GC_PR_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    labels[_erode(ground & ~different)] = cv2.GC_BGD
    labels[_erode(~ground & (backdrop.distance > strong))] = cv2.GC_FGD
    labels[doubtful] = cv2.GC_FGD
    product = _without_specks(_grabcut(rgb, labels, iterations) & ~_erode(holes))
    return Silhouette(product, _confidence(rgb, product, ~ground, doubtful, backdrop, likely))


def _erode(bits: Bits) -> Bits:
    return np.asarray(cv2.erode(bits.astype(np.uint8), _PATCH, borderType=cv2.BORDER_REPLICATE) > 0)


def _shadow_like(rgb: U8, backdrop: Backdrop) -> Bits:
    """Darker than the backdrop, of its hue, and without an edge: a cast shadow, as far as one pixel can tell."""
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (0, 0), 1.0).astype(np.float32)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8.0, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8.0)
    hue = backdrop.chroma < 4.0 + 2.0 * backdrop.noise
    return np.asarray(hue & (backdrop.darker > 0.0) & (backdrop.darker < 45.0) & (slope < 4.0))


def _ground(same: Bits, shadow: Bits) -> Bits:
    """Pixels of backdrop colour that are connected to the border, and the shadows that lie next to them.

    A shadow may be this deep only: where a grey product meets its own shadow without an edge, the ground would
    otherwise run into it.
    """
    ground = _at_border(same)
    grown = ground.astype(np.uint8)
    allowed = (ground | shadow).astype(np.uint8)
    for _ in range(round(0.15 * float(np.sqrt((~ground).sum())))):
        grown = cv2.dilate(grown, _CROSS) & allowed
    return np.asarray(grown > 0)


def _at_border(bits: Bits) -> Bits:
    """The components that reach the border."""
    _, regions = cv2.connectedComponents(bits.astype(np.uint8), connectivity=4)
    frame = np.zeros(bits.shape, bool)
    frame[0], frame[-1], frame[:, 0], frame[:, -1] = True, True, True, True
    return np.isin(regions, np.unique(regions[frame & bits]))


def _holes(product: Bits, shadow: Bits, backdrop: Backdrop, likely: float) -> tuple[Bits, Bits]:
    """Regions of backdrop colour that the product encloses: those to see through, and those that nobody can tell.

    The hole of a handle is small, mostly rimmed by a thin part, and shows the very backdrop somewhere. A region with
    print on it is a label, and so is one brighter than the backdrop. Between the rest (a blank white label, the sheen
    of a white mug, the middle of a ring) one photo does not decide: such a region stays product and costs confidence.
    """
    enclosed = product & ((backdrop.distance < likely) | (shadow & (backdrop.darker < 12.0)))
    count, regions, stats, _ = cv2.connectedComponentsWithStats(enclosed.astype(np.uint8), connectivity=4)
    to_outside = cv2.distanceTransform(product.astype(np.uint8), cv2.DIST_L2, 5)
    area = max(int(product.sum()), 1)
    holes, doubtful = np.zeros_like(product), np.zeros_like(product)
    for region in range(1, count):
        size = int(stats[region, cv2.CC_STAT_AREA])
        if size < max(6.0, 0.0004 * area):
            continue
        where = np.asarray(regions == region)
        if float(np.median(backdrop.darker[where])) < -1.0 - backdrop.noise:
            continue  # what shows through a hole is never brighter than the backdrop
        outline, _ = cv2.findContours(where.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        if sum(len(part) for part in outline) - max(len(part) for part in outline) > 40:
            continue  # letters: islands in the region, with outlines of their own
        rim = where & (cv2.erode(where.astype(np.uint8), _CROSS) == 0)
        thin = float((to_outside[rim] < 0.12 * np.sqrt(area)).mean())
        match = float(np.quantile(backdrop.distance[where], 0.25)) < 1.0 + 2.0 * backdrop.noise
        if size < 0.25 * area and thin > 0.5 and match:
            holes |= where
        else:
            doubtful |= where
    return holes, doubtful


def _central(shape: tuple[int, ...]) -> U8:
    """Labels for a photo without a backdrop: the border is ground, the product is somewhere in the middle."""
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
    """Keep every component (a pair of shoes) except dust; fill pinholes."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats(product.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count == 1:
        return product
    kept = np.isin(regions, 1 + np.flatnonzero(areas >= max(8.0, 0.01 * float(areas.max()))))
    return np.asarray(cv2.morphologyEx(kept.astype(np.uint8), cv2.MORPH_CLOSE, _CROSS) > 0)


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _confidence(rgb: U8, product: Bits, expected: Bits, doubtful: Bits, backdrop: Backdrop, likely: float) -> float:
    """The weakest of five reasons to believe the silhouette."""
    area = float(product.mean())
    if area in (0.0, 1.0):
        return 0.0
    agreement = float((product & expected).sum() / (product | expected).sum())
    return min(
        _ramp(backdrop.share, 0.5, 0.85),  # the border is a backdrop
        _ramp(_outline_contrast(rgb, product), likely, 2.5 * likely),  # there is an edge nearly all along the outline
        _ramp(agreement, 0.5, 0.85),  # two ways to find the product agree
        _ramp(area, 0.0005, 0.005) * _ramp(1.0 - area, 0.02, 0.15),  # it is neither dust nor the whole photo
        1.0 - _ramp(float(doubtful.sum() / product.sum()), 0.0, 0.02) * 0.5,  # what may be a hole is small
    )


def _outline_contrast(rgb: U8, product: Bits) -> float:
    """Colour difference (CIE 1976) between the two sides of the outline, at its weaker places: the 15 % quantile."""
    lab = np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab), np.float32)
    inner, outer = _erode(product), _erode(~product)
    step = np.linalg.norm(spread(lab, inner.astype(np.float32)) - spread(lab, outer.astype(np.float32)), axis=2)
    rim = product & (cv2.erode(product.astype(np.uint8), _CROSS, borderType=cv2.BORDER_REPLICATE) == 0)
    return float(np.quantile(step[rim], 0.15))
