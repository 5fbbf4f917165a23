"""Regions of backdrop colour inside the product: holes to see through, or labels that happen to be that colour.

What shows through a hole is the backdrop itself: its level there, its gradient and its grain. A label differs from
it by an offset that is small but constant, is lit like the product, and is often a rectangle.
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
    """What one enclosed region looks like beside the backdrop expected at its place. Units: CIE Lab.

    offset: length of the median difference; tolerance: as much of it as the backdrop's own noise explains.
    shaded: darker at unchanged chroma, as a shadow behind a hole would be.
    follows: share of the region that is within the tolerance, 0..1. The rest may lie in a shadow.
    slope: how the region's lightness goes with the expected one, 1 for a hole and 0 for a flat label; None where the
    backdrop is too even there to tell.
    grain: fine texture, as a multiple of the backdrop's.
    handle: small, and a quarter of its rim is a thin part of the product. straight: fills a rectangle.
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
    """hole: see-through; certain: whether the photo decides it."""

    hole: bool
    certain: bool


def read(evidence: Evidence) -> Reading:
    """The more likely of the two readings.

    Against an even backdrop (often burnt-out white) a blank label may match in everything. Only the place tells
    then: the hole of a handle has a thin rim and is no rectangle; anything else stays product, to be reviewed.
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
    """Holes in a product `[h, w]`, and the regions that stay product although nobody can tell from one photo.

    product: everything that the ground does not reach, so with its holes filled. shadow: where a shadow may be.
    likely: colour difference from the backdrop from which on a pixel is more likely product.
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
    """What shows through a hole is never brighter than the backdrop."""
    return float(np.median(backdrop.darker[where])) < -1.0 - backdrop.noise


def _printed(where: Bits, ink: Bits) -> bool:
    """Letters: islands of ink in the region. Islands that compression leaves there have nearly its own colour."""
    outlines, _ = cv2.findContours(where.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(where.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    return float(((filled > 0) & ink).sum()) > 0.01 * float(where.sum())


class _Local:
    """The backdrop as the ground near a place shows it: the fit, corrected by what it misses there."""

    def __init__(self, backdrop: Backdrop, ground: Bits) -> None:
        self.tolerance = 0.4 + 0.3 * backdrop.noise
        clear = ground & (backdrop.distance < 1.0 + 2.0 * backdrop.noise)
        missed = spread(backdrop.difference, clear.astype(np.float32))
        self.expected = np.asarray(backdrop.fitted[..., 0] + missed[..., 0], np.float32)
        self.residual = np.asarray(backdrop.difference - missed, np.float32)
        self.grain = _grain(self.residual, clear)

    def evidence(self, where: Bits, to_outside: F32) -> Evidence:
        """to_outside: `[h, w]`, distance to the ground as a share of the square root of the product's area."""
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
    """Mean over 5 x 5 pixels of the core: a level is judged without its noise."""
    weight = core.astype(np.float32)
    total = np.maximum(cv2.blur(weight, (5, 5)), 1e-6)
    return np.asarray(cv2.blur(residual * weight[..., None], (5, 5)) / total[..., None], np.float32)


def _grain(residual: F32, core: Bits) -> float:
    """Median step in lightness from pixel to pixel to the right: blind to level and gradient."""
    both = core[:, 1:] & core[:, :-1]
    steps = np.abs(np.diff(residual[..., 0], axis=1))[both]
    return float(np.median(steps)) if steps.size else 0.0


def _slope(expected: F32, residual: F32) -> float | None:
    """Regression of lightness on expected lightness; None where its standard error, or 8 bits, leave it open."""
    varied = expected - expected.mean()
    power = float((varied * varied).sum())
    if power < 0.1**2 * len(varied):
        return None
    excess = float((varied * residual).sum()) / power
    error = float((residual - residual.mean() - excess * varied).std()) / np.sqrt(power)
    return 1.0 + excess if error < 0.15 else None
