"""Shadows of a packshot: the backdrop made darker, with its hue and without an edge."""

from __future__ import annotations

import cv2
import numpy as np

from preprocessing.arrays import F32, U8, Bits
from preprocessing.packshot.backdrop import Backdrop
from preprocessing.packshot.morphology import at_border, dilate, erode
from preprocessing.packshot.spread import spread

_STEP = 6.0
"""Colour difference (CIE 1976) from one pixel of a shadow to the ground beside it; more than this is an edge."""

_SHADE = 2.0
"""How much darker than the backdrop (CIE L) ground is that lies in a shadow."""


def edges(rgb: U8) -> Bits:
    """Where grey changes by 6 levels or more a pixel, which a soft shadow hardly does."""
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (0, 0), 1.0).astype(np.float32)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8.0, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8.0)
    return np.asarray(slope >= 6.0)


def shadow_like(rgb: U8, backdrop: Backdrop) -> Bits:
    """Darker than the backdrop, of its hue, and without an edge: a cast shadow, as far as one pixel can tell."""
    return _darkened(backdrop) & ~edges(rgb)


def ground_of(same: Bits, shadow: Bits) -> Bits:
    """Pixels of backdrop colour that are connected to the border, and the shadows that lie next to them.

    A shadow may be this deep only: where a grey product meets its own shadow without an edge, the ground would
    otherwise run into it.
    """
    ground = at_border(same)
    grown, allowed = ground, ground | shadow
    for _ in range(round(0.15 * float(np.sqrt((~ground).sum())))):
        grown = dilate(grown) & allowed
    return grown


def without_contact_shadow(rgb: U8, product: Bits, backdrop: Backdrop) -> Bits:
    """The product without the sliver of shadow that clings to it where it stands.

    The darkest line of a contact shadow is only pixels wide and lies against the product's edge, so `shadow_like`
    leaves it out, and as a colour of its own GrabCut counts it to either side. Here the ground grows into it, pixel
    by pixel, from where it is in shadow itself, while the colour is the backdrop's hue, goes on without a step from the
    ground beside it, and is nearer to that ground than to the product further in. The last keeps a grey product, and a
    light sole.
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
    """The mean colour of the ground among the eight neighbours; far from the ground it means nothing."""
    weight = ground.astype(np.float32)
    total = np.asarray(cv2.blur(weight, (3, 3)), np.float32)
    return np.asarray(cv2.blur(lab * weight[..., None], (3, 3)) / np.maximum(total, 1e-6)[..., None], np.float32)
