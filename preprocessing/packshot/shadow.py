"""Shadows of a packshot: darker than the backdrop, of its hue and without an edge."""

from __future__ import annotations

import cv2
import numpy as np

from preprocessing.arrays import F32, U8, Bits
from preprocessing.packshot.backdrop import Backdrop
from preprocessing.packshot.morphology import at_border, dilate, erode
from preprocessing.packshot.spread import spread

_STEP = 6.0
"""Colour difference (CIE 1976) of neighbouring pixels above which there is an edge and not a shadow."""

_SHADE = 2.0
"""How much darker than the backdrop (CIE L) background in a shadow is at least."""


def edges(rgb: U8) -> Bits:
    """Where grey changes by 6 levels or more per pixel, which a soft shadow hardly does. `[h, w, 3]` to `[h, w]`."""
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (0, 0), 1.0).astype(np.float32)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8.0, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8.0)
    return np.asarray(slope >= 6.0)


def shadow_like(rgb: U8, backdrop: Backdrop) -> Bits:
    """Pixels `[h, w]` that may be a cast shadow: darker than the backdrop, of its hue, and without an edge."""
    return _darkened(backdrop) & ~edges(rgb)


def ground_of(same: Bits, shadow: Bits) -> Bits:
    """The background: pixels of backdrop colour that are connected to the border, and the shadows next to them.

    The depth of a shadow is limited: where a grey product meets its own shadow without an edge, the background would
    otherwise grow into the product.

    Args:
        same: `[h, w]`, pixels of backdrop colour.
        shadow: `[h, w]`, pixels that may be a shadow.
    """
    ground = at_border(same)
    grown, allowed = ground, ground | shadow
    for _ in range(round(0.15 * float(np.sqrt((~ground).sum())))):
        grown = dilate(grown) & allowed
    return grown


def without_contact_shadow(rgb: U8, product: Bits, backdrop: Backdrop) -> Bits:
    """The product without the narrow contact shadow along its foot.

    The darkest line of a contact shadow is only pixels wide and touches the product's edge. So `shadow_like` leaves it
    out, and GrabCut, to which it is a colour of its own, assigns it to either side. Here the background grows into it
    pixel by pixel, starting from background in shadow, as long as the colour has the backdrop's hue, continues without
    a step from the background beside it, and is nearer to that background than to the product further inside. The last
    condition keeps grey products and light soles.

    Args:
        rgb: `[h, w, 3]`.
        product: `[h, w]`.
        backdrop: The estimated backdrop.
    """
    depth = max(3, round(0.03 * float(np.sqrt(product.sum()))))
    core = erode(product, (depth + 2) // 2)
    if not core.any():
        return product
    lab = _lab(rgb)
    to_product = np.linalg.norm(lab - spread(lab, core.astype(np.float32)), axis=2)
    allowed = product & _darkened(backdrop)
    left = product
    for _ in range(depth):
        front = dilate(~left) & left & allowed
        to_ground = np.linalg.norm(lab - _beside(lab, ~left), axis=2)
        shaded = _beside(backdrop.difference, ~left)[..., 0] < -_SHADE
        taken = front & shaded & (to_ground < np.minimum(_STEP, to_product))
        if not taken.any():
            break
        left = left & ~taken
    return left


def _darkened(backdrop: Backdrop) -> Bits:
    hue = backdrop.chroma < 4.0 + 2.0 * backdrop.noise
    return np.asarray(hue & (backdrop.darker > 0.0) & (backdrop.darker < 45.0))


def _lab(rgb: U8) -> F32:
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab), np.float32)


def _beside(lab: F32, ground: Bits) -> F32:
    """The mean colour of the background among the eight neighbours; meaningless where there is none."""
    weight = ground.astype(np.float32)
    total = np.asarray(cv2.blur(weight, (3, 3)), np.float32)
    return np.asarray(cv2.blur(lab * weight[..., None], (3, 3)) / np.maximum(total, 1e-6)[..., None], np.float32)
