"""Regions of backdrop colour inside the product: holes, or labels that happen to have that colour.

Through a hole the backdrop itself is seen: its level there, its gradient and its grain. A label differs from it by an
offset that is small but constant, is lit like the product, and is often a rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.arrays import F32, Bits
from preprocessing.packshot.backdrop import Backdrop
from preprocessing.packshot.morphology import erode, rim
from preprocessing.packshot.spread import spread


@dataclass(frozen=True)
class Evidence:
    """How one enclosed region compares with the backdrop expected at its position. Units: CIE Lab.

    Attributes:
        offset: Length of the median difference.
        tolerance: As much of it as the backdrop's own noise explains.
        shaded: Darker at unchanged chroma, as a shadow behind a hole would be.
        follows: Share of the region that is within the tolerance, 0..1. The rest may be in a shadow.
        slope: Slope of the region's lightness over the expected lightness: 1 for a hole and 0 for a flat label; None
            where the backdrop is too even to tell.
        grain: Fine texture, as a multiple of the backdrop's.
        handle: Small, and a quarter of its rim is a thin part of the product.
        straight: Fills a rectangle.
    """

    offset: float
    tolerance: float
    shaded: bool
    follows: float
    slope: float | None
    grain: float
    handle: bool
    straight: bool


@dataclass(frozen=True)
class Reading:
    """What a region is taken for.

    Attributes:
        hole: Whether it is a hole.
        certain: Whether the photo alone decides that.
    """

    hole: bool
    certain: bool


def read(evidence: Evidence) -> Reading:
    """The more likely of the two readings.

    On an even backdrop (often overexposed white) a blank label may match in everything, and only the position decides.
    The hole of a handle has a thin rim and is not a rectangle; anything else stays product, to be reviewed.
    """
    if evidence.follows < 0.25:
        flat = evidence.slope is not None and evidence.slope < 0.5
        clear = evidence.offset > (2.0 if flat else 8.0) * evidence.tolerance
        return Reading(False, certain=clear and not (evidence.shaded and evidence.handle))
    if not 0.4 < evidence.grain < 2.5:
        return Reading(False, certain=False)
    if evidence.slope is not None and evidence.follows > 0.6:
        hole = 0.5 < evidence.slope < 1.5
        return Reading(hole, certain=hole)
    hole = evidence.handle and not evidence.straight
    return Reading(hole, certain=hole)


def find_holes(product: Bits, shadow: Bits, backdrop: Backdrop, likely: float) -> tuple[Bits, Bits]:
    """Find the holes in a product.

    Args:
        product: `[h, w]`, everything that the background does not reach, that is, with its holes filled.
        shadow: `[h, w]`, where a shadow may be.
        backdrop: The estimated backdrop.
        likely: Colour difference from the backdrop above which a pixel is more likely product.

    Returns:
        The holes `[h, w]`, and the regions `[h, w]` that stay product although one photo cannot decide it.
    """
    enclosed = product & ((backdrop.distance < likely) | (shadow & (backdrop.darker < 12.0)))
    count, regions, stats, _ = cv2.connectedComponentsWithStats(enclosed.astype(np.uint8), connectivity=4)
    local = _Local(backdrop, ~product)
    to_outside = np.asarray(cv2.distanceTransform(product.astype(np.uint8), cv2.DIST_L2, 5), np.float32)
    to_outside /= np.float32(max(np.sqrt(product.sum()), 1.0))
    holes, doubtful = np.zeros_like(product), np.zeros_like(product)
    ink = backdrop.distance > 3.0 * likely
    smallest = max(6.0, 0.0004 * float(product.sum()))
    for region in range(1, count):
        where = np.asarray(regions == region)
        if stats[region, cv2.CC_STAT_AREA] < smallest or _brighter(where, backdrop) or _printed(where, ink):
            continue
        reading = read(local.evidence(where, to_outside))
        if reading.hole:
            holes |= where
        elif not reading.certain:
            doubtful |= where
    return holes, doubtful


def _brighter(where: Bits, backdrop: Backdrop) -> bool:
    """Whether the region is brighter than the backdrop: then it is not a hole."""
    return float(np.median(backdrop.darker[where])) < -1.0 - backdrop.noise


def _printed(where: Bits, ink: Bits) -> bool:
    """Whether there are letters: islands of ink in the region. Those left by compression have nearly its colour."""
    outlines, _ = cv2.findContours(where.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(where.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    return float(((filled > 0) & ink).sum()) > 0.01 * float(where.sum())


class _Local:
    """The backdrop near a region: the fit, corrected by its residual in the background around."""

    def __init__(self, backdrop: Backdrop, ground: Bits) -> None:
        self.tolerance = 0.4 + 0.3 * backdrop.noise
        clear = ground & (backdrop.distance < 1.0 + 2.0 * backdrop.noise)
        missed = spread(backdrop.difference, clear.astype(np.float32))
        self.expected = np.asarray(backdrop.fitted[..., 0] + missed[..., 0], np.float32)
        self.residual = np.asarray(backdrop.difference - missed, np.float32)
        self.grain = _grain(self.residual, clear)

    def evidence(self, where: Bits, to_outside: F32) -> Evidence:
        """Compare one region with the backdrop.

        Args:
            where: `[h, w]`, the region.
            to_outside: `[h, w]`, distance to the background as a share of the square root of the product's area.
        """
        core = erode(where)  # the outermost pixels are mixed with the product's colour
        core = core if core.sum() >= 16 else where
        smooth = _smoothed(self.residual, core)[core]
        edge, (_, sides, _) = rim(where), cv2.minAreaRect(np.argwhere(where).astype(np.float32))
        offset = np.median(self.residual[core], axis=0)
        return Evidence(
            offset=float(np.linalg.norm(offset)),
            tolerance=self.tolerance,
            shaded=bool(offset[0] < 0.0 and np.linalg.norm(offset[1:]) < self.tolerance),
            follows=float((np.linalg.norm(smooth, axis=1) < self.tolerance).mean()),
            slope=_slope(self.expected[core], self.residual[core][:, 0]),
            grain=(_grain(self.residual, core) + 0.15) / (self.grain + 0.15),
            handle=bool(where.sum() < 0.25 * (to_outside > 0).sum() and np.quantile(to_outside[edge], 0.25) < 0.15),
            straight=bool(where.sum() > 0.93 * (sides[0] + 1.0) * (sides[1] + 1.0)),
        )


def _smoothed(residual: F32, core: Bits) -> F32:
    """Mean over 5 x 5 pixels of the core, so that a level is compared without its noise."""
    weight = core.astype(np.float32)
    total = np.maximum(cv2.blur(weight, (5, 5)), 1e-6)
    return np.asarray(cv2.blur(residual * weight[..., None], (5, 5)) / total[..., None], np.float32)


def _grain(residual: F32, core: Bits) -> float:
    """Median step in lightness between horizontal neighbours; level and gradient have no influence."""
    both = core[:, 1:] & core[:, :-1]
    steps = np.abs(np.diff(residual[..., 0], axis=1))[both]
    return float(np.median(steps)) if steps.size else 0.0


def _slope(expected: F32, residual: F32) -> float | None:
    """Regression of lightness on expected lightness; None where its standard error, or 8 bits, are too coarse."""
    varied = expected - expected.mean()
    power = float((varied * varied).sum())
    if power < 0.1**2 * len(varied):
        return None
    excess = float((varied * residual).sum()) / power
    error = float((residual - residual.mean() - excess * varied).std()) / np.sqrt(power)
    return 1.0 + excess if error < 0.15 else None
