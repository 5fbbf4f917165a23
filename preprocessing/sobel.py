"""Sobel map: the product's inner edges (labels, stripes, rims), which the mask and the depth do not show."""

from __future__ import annotations

import cv2
import numpy as np

from preprocessing.arrays import F32, U8
from preprocessing.blend import over_neutral

FULL_EDGE = 4.0 * 127.5
"""Response of the 3 x 3 Sobel kernel to a step of half the 8-bit range; such an edge and every stronger one reads 1."""


def sobel(rgb: U8, alpha: U8) -> F32:
    """Gradient magnitude of the product on neutral grey, weighted by its alpha.

    Takes the strongest of the three channels, so that a red label on green of equal brightness is seen. The scale is
    fixed, not stretched per image: the map of a plain product is near 0.

    An edge is one pixel wide at any resolution. So this runs at the working size, on the product already resampled to
    it (see `canvas.compose`), never on the full photo.

    Args:
        rgb: `[H, W, 3]`.
        alpha: `[H, W]`.

    Returns:
        `[H, W]` in 0..1.
    """
    product = over_neutral(rgb, alpha).astype(np.float32)
    dx = cv2.Sobel(product, cv2.CV_32F, 1, 0, ksize=3, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.Sobel(product, cv2.CV_32F, 0, 1, ksize=3, borderType=cv2.BORDER_REPLICATE)
    magnitude = np.sqrt(dx * dx + dy * dy).max(axis=2) / FULL_EDGE
    return np.asarray(np.minimum(magnitude, 1.0) * (alpha.astype(np.float32) / 255.0), np.float32)
