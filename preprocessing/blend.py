"""Alpha blending in whole numbers: the same bytes on every machine."""

from __future__ import annotations

import numpy as np

from preprocessing.arrays import NEUTRAL, U8


def blend(front: U8, alpha: U8, background: U8 | int) -> U8:
    """Straight (not premultiplied) colours over a background, rounded to the nearest level.

    Exact where alpha is 0 or 255.

    Args:
        front: `[..., 3]`.
        alpha: `[...]`, 255 = opaque.
        background: `[..., 3]`, or one grey level for all pixels.

    Returns:
        `[..., 3]`.
    """
    weight = alpha.astype(np.uint32)[..., None]
    return np.asarray((front * weight + background * (255 - weight) + 127) // 255, np.uint8)


def over_neutral(rgb: U8, alpha: U8) -> U8:
    """Products on neutral grey, as the VAE and the Sobel filter see them: `rgb` `[..., 3]` by `alpha` `[...]`."""
    return blend(rgb, alpha, NEUTRAL)
