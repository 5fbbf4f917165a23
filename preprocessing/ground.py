"""A product on the ground of a scene instead of neutral grey, so that its edge has the scene's colours around it."""

from __future__ import annotations

import cv2
import numpy as np

from preprocessing.arrays import NEUTRAL, U8
from preprocessing.canvas import Canvas
from preprocessing.packshot.spread import spread


def on_ground(canvas: Canvas, scene: U8, reach: int) -> U8:
    """The canvas's product in front of a scene of which only the background is used.

    What the scene shows at the product's place, and so near its edge that it may be part of it, is not used: the
    colours around it are continued there.

    Args:
        canvas: The product on neutral grey.
        scene: `[h, w, 3]`, of the same size.
        reach: How near is too near, in pixels.

    Returns:
        `[h, w, 3]`: the canvas's own bytes where the product is opaque, the scene's away from it.
    """
    side = 2 * reach + 1
    product = (canvas.alpha > 0).astype(np.uint8)
    near = cv2.dilate(product, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0
    ground = np.where(near[..., None], spread(scene, (~near).astype(np.float32)), scene.astype(np.float32))
    through = 1.0 - canvas.alpha[..., None].astype(np.float32) / 255
    mixed = canvas.image + through * (ground - NEUTRAL)  # the canvas is itself a mixture with neutral grey
    return np.asarray(np.rint(np.clip(mixed, 0, 255)), np.uint8)
