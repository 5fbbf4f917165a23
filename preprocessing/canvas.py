"""Where the product is placed, and the canvas that the backbone sees.

A placement is resolved once, at delivery size. The working canvas is the same composition at the backbone's
resolution: its box is the delivery box, scaled. So a raw image that is enlarged to delivery size has its background and
its shadow where the pasted product needs them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from preprocessing.arrays import U8
from preprocessing.blend import over_neutral
from preprocessing.cutout import Cutout
from preprocessing.resample import RESAMPLE, Box, Layer, Window, resample
from preprocessing.sobel import sobel

__all__ = ["RESAMPLE", "Box", "Canvas", "Layer", "Placement", "compose", "place", "resample", "working_size"]

STANDING_SCALE = 0.7
"""Default share of the canvas that a product takes when it is moved ("centre", "bottom")."""


@dataclass(frozen=True)
class Placement:
    """How the product is placed on the canvas.

    Attributes:
        kind: "original" keeps the photo's geometry; "centre" and "bottom" move the product's bounding box.
        scale: Share of the canvas that the product's bounding box takes along the side that limits it, above 0 and at
            most 1. None = as in the photo for "original", else 0.7.
        padding: Share of the canvas's shorter side that stays free around the product, at least 0 and below 0.5; for
            "bottom" also the distance below it. "original" without a scale ignores it.

    Raises:
        ValueError: A value is none of these.
    """

    kind: Literal["original", "centre", "bottom"] = "original"
    scale: float | None = None
    padding: float = 0.08

    def __post_init__(self) -> None:
        if self.kind not in ("original", "centre", "bottom"):
            raise ValueError(f"placement must be original, centre or bottom, not {self.kind!r}")
        if self.scale is not None and not 0.0 < self.scale <= 1.0:
            raise ValueError(f"scale must be above 0 and at most 1, not {self.scale}")
        if not 0.0 <= self.padding < 0.5:
            raise ValueError(f"padding must be at least 0 and below 0.5, not {self.padding}")


@dataclass(frozen=True)
class Canvas:
    """What the backbone and the extractor see.

    Attributes:
        image: `[h, w, 3]`, the product on neutral grey.
        alpha: `[h, w]`, its mask.
        depth: `[h, w]`, relative nearness, 255 = nearest, 0 outside the product.
        sobel: `[h, w]`, edges inside the product, 255 = strong.
    """

    image: U8
    alpha: U8
    depth: U8
    sobel: U8


def place(cutout: Cutout, placement: Placement, size: tuple[int, int]) -> Box:
    """Resolve a placement on a canvas.

    The aspect ratio is kept and the box stays inside the canvas. "original" at the photo's own size is the identity:
    whole pixels at scale 1.

    Args:
        cutout: The product.
        placement: How it is placed.
        size: (width, height) of the canvas in pixels.

    Returns:
        Where the product's bounding box is placed.

    Raises:
        ValueError: The cutout is empty.
    """
    width, height = size
    x0, y0, x1, y1 = cutout.bbox
    product = (x1 - x0, y1 - y0)
    if min(product) == 0:
        raise ValueError("the cutout is empty, there is no product to place")
    photo = min(width / cutout.size[0], height / cutout.size[1])
    left, top = (width - cutout.size[0] * photo) / 2, (height - cutout.size[1] * photo) / 2
    if placement.kind == "original" and placement.scale is None:
        return Box(left + x0 * photo, top + y0 * photo, product[0] * photo, product[1] * photo)

    margin = placement.padding * min(width, height)
    free = (width - 2 * margin, height - 2 * margin)
    share = STANDING_SCALE if placement.scale is None else placement.scale
    wanted = share * min(width / product[0], height / product[1])
    factor = min(wanted, free[0] / product[0], free[1] / product[1])
    w, h = product[0] * factor, product[1] * factor
    if placement.kind == "original":  # resized about its centre in the photo
        x = left + (x0 + x1) / 2 * photo - w / 2
        y = top + (y0 + y1) / 2 * photo - h / 2
    else:
        x = (width - w) / 2
        y = height - margin - h if placement.kind == "bottom" else (height - h) / 2
    return Box(min(max(x, margin), width - margin - w), min(max(y, margin), height - margin - h), w, h)


def compose(
    cutout: Cutout, placement: Placement, working_size: tuple[int, int], delivery_size: tuple[int, int] | None = None
) -> Canvas:
    """The product on its canvas.

    Args:
        cutout: The product.
        placement: How it is placed.
        working_size: (width, height) of the canvas in pixels, the backbone's resolution.
        delivery_size: (width, height) of the final picture, at which the placement is resolved; None = `working_size`.

    Raises:
        ValueError: The cutout is empty.
    """
    delivery = delivery_size or working_size
    box = place(cutout, placement, delivery)
    box = box.scaled(working_size[0] / delivery[0], working_size[1] / delivery[1])
    layer = resample(cutout, box, working_size)
    window = Window.of(cutout, box, working_size)
    depth = np.zeros(layer.alpha.shape, np.uint8)
    depth[window.target] = window.pull(cutout.depth[window.source])
    depth[layer.alpha == 0] = 0
    edges = np.asarray(np.rint(sobel(layer.rgb, layer.alpha) * 255.0), np.uint8)
    return Canvas(over_neutral(layer.rgb, layer.alpha), layer.alpha, depth, edges)


def working_size(delivery: tuple[int, int], pixels: int, multiple: int = 16) -> tuple[int, int]:
    """The backbone's size for a delivery size: of about as many pixels as wanted, the nearest aspect ratio.

    What remains is a stretch of a few per cent, which is undone at delivery.

    Args:
        delivery: (width, height) in pixels.
        pixels: About how many pixels the working size has.
        multiple: What both of its sides are multiples of.

    Returns:
        (width, height) in pixels.

    Raises:
        ValueError: The delivery size is empty, or `pixels` are too few for one `multiple` x `multiple` square.
    """
    if min(delivery) < 1 or pixels < multiple * multiple:
        raise ValueError(f"cannot fit {delivery} into {pixels} pixels in steps of {multiple}")
    aspect = delivery[0] / delivery[1]
    ideal = math.sqrt(pixels * aspect) / multiple
    candidates = []
    for columns in {max(1, math.floor(ideal) - 1), max(1, math.floor(ideal)), math.ceil(ideal), math.ceil(ideal) + 1}:
        rows = max(1, round(columns / aspect))
        stretch = abs(math.log(columns / rows / aspect))
        area = abs(math.log(columns * rows * multiple * multiple / pixels))
        candidates.append((stretch + 0.25 * area, columns, rows))
    _, columns, rows = min(candidates)
    return columns * multiple, rows * multiple
