"""Where the product stands, and the canvas that the backbone sees.

A placement is resolved once, at delivery size. The working canvas is that very composition at the backbone's
resolution: its box is the delivery box, scaled, so that a raw image blown up to delivery size has its ground and its
shadow where the pasted product needs them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from preprocessing.arrays import U8
from preprocessing.cutout import Cutout
from preprocessing.sobel import over_neutral, sobel

RESAMPLE = "pillow-bicubic-extended-1"
"""The one resample of the product: Pillow's antialiased bicubic (integer arithmetic, the same bytes on every machine) on
straight colours that are extended past the silhouette, so that neither overshoot nor a black ground tints the edge."""

STANDING_SCALE = 0.7
"""Default share of the canvas that a product takes when it is placed anew ("centre", "bottom")."""


@dataclass(frozen=True)
class Placement:
    """How the product sits on the canvas.

    kind: "original" keeps the photo's geometry; "centre" and "bottom" move the product's bounding box.
    scale: the product's share of the canvas side that it meets first; None = "original": as in the photo, else 0.7.
    padding: share of the canvas's shorter side that stays free around a placed product; also the ground below "bottom".
        "original" without a scale ignores it.
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
class Box:
    """Where the product's bounding box lands, in pixels of a given canvas size (not necessarily whole ones)."""

    x: float
    y: float
    width: float
    height: float

    def scaled(self, horizontal: float, vertical: float) -> Box:
        """The same box on a canvas whose sides are longer by these factors."""
        return Box(self.x * horizontal, self.y * vertical, self.width * horizontal, self.height * vertical)


@dataclass(frozen=True)
class Layer:
    """The product on a canvas, resampled once from its source: rgb `[h, w, 3]` (0 where alpha is 0), alpha `[h, w]`."""

    rgb: U8
    alpha: U8


@dataclass(frozen=True)
class Canvas:
    """What the backbone and the extractor see: the product on neutral grey, and the three shape maps, all `[h, w]`."""

    image: U8
    alpha: U8
    depth: U8
    sobel: U8


def place(cutout: Cutout, placement: Placement, size: tuple[int, int]) -> Box:
    """Resolve a placement on a canvas of `size` (width, height). The aspect ratio is kept, the box stays inside.

    "original" at the photo's own size is the identity: whole pixels at scale 1.
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
    if placement.kind == "original":  # resized about the place that it has in the photo
        x = left + (x0 + x1) / 2 * photo - w / 2
        y = top + (y0 + y1) / 2 * photo - h / 2
    else:
        x = (width - w) / 2
        y = height - margin - h if placement.kind == "bottom" else (height - h) / 2
    return Box(min(max(x, margin), width - margin - w), min(max(y, margin), height - margin - h), w, h)


def resample(cutout: Cutout, box: Box, size: tuple[int, int]) -> Layer:
    """Bring the product's pixels to `box` on an empty canvas of `size` (width, height).

    At scale 1 on whole pixels this copies bytes; else it is the resample named `RESAMPLE`.
    """
    window = _Window.of(cutout, box, size)
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    alpha = np.zeros((size[1], size[0]), np.uint8)
    alpha[window.target] = window.pull(cutout.alpha)
    source = cutout.rgb if window.exact else _extended(cutout.rgb, cutout.alpha, window)
    rgb[window.target] = window.pull(source)
    rgb[alpha == 0] = 0
    return Layer(rgb, alpha)


def compose(
    cutout: Cutout, placement: Placement, working_size: tuple[int, int], delivery_size: tuple[int, int] | None = None
) -> Canvas:
    """The canvas of `working_size` (width, height) for a picture of `delivery_size` (the working size if None)."""
    delivery = delivery_size or working_size
    box = place(cutout, placement, delivery)
    box = box.scaled(working_size[0] / delivery[0], working_size[1] / delivery[1])
    layer = resample(cutout, box, working_size)
    window = _Window.of(cutout, box, working_size)
    depth = np.zeros(layer.alpha.shape, np.uint8)
    depth[window.target] = window.pull(cutout.depth)
    depth[layer.alpha == 0] = 0
    edges = np.asarray(np.rint(sobel(layer.rgb, layer.alpha) * 255.0), np.uint8)
    return Canvas(over_neutral(layer.rgb, layer.alpha), layer.alpha, depth, edges)


def working_size(delivery: tuple[int, int], pixels: int, multiple: int = 16) -> tuple[int, int]:
    """The backbone's size for a delivery size: both sides multiples of `multiple`, about `pixels` pixels, and of those
    sizes the one with the nearest aspect ratio (what remains is a stretch of a few per cent, undone at delivery)."""
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


@dataclass(frozen=True)
class _Window:
    """The part of the photo that matters, and the whole pixels of the canvas that it maps to."""

    source: tuple[slice, slice]
    target: tuple[slice, slice]
    reach: int  # pixels to repeat around the source crop, so that the target's outer pixels are covered
    span: tuple[float, float, float, float]  # the target in coordinates of the padded crop
    exact: bool

    @classmethod
    def of(cls, cutout: Cutout, box: Box, size: tuple[int, int]) -> _Window:
        horizontal = _axis(cutout.bbox[0], cutout.bbox[2], cutout.size[0], box.x, box.width, size[0])
        vertical = _axis(cutout.bbox[1], cutout.bbox[3], cutout.size[1], box.y, box.height, size[1])
        reach = max(horizontal.reach, vertical.reach)
        return cls(
            source=(vertical.source, horizontal.source),
            target=(vertical.target, horizontal.target),
            reach=reach,
            span=(horizontal.lo + reach, vertical.lo + reach, horizontal.hi + reach, vertical.hi + reach),
            exact=horizontal.exact and vertical.exact,
        )

    def pull(self, image: U8) -> U8:
        """`image` (photo-sized) at the target's pixels."""
        crop = image[self.source]
        rows, columns = self.target
        if self.exact:
            x, y = round(self.span[0]) - self.reach, round(self.span[1]) - self.reach
            return crop[y : y + rows.stop - rows.start, x : x + columns.stop - columns.start]
        padded = cv2.copyMakeBorder(crop, *[self.reach] * 4, cv2.BORDER_REPLICATE)
        out = (columns.stop - columns.start, rows.stop - rows.start)
        return np.asarray(Image.fromarray(padded).resize(out, Image.Resampling.BICUBIC, box=self.span), np.uint8)


@dataclass(frozen=True)
class _Axis:
    source: slice
    target: slice
    reach: int
    lo: float
    hi: float
    exact: bool


def _axis(start: int, stop: int, photo: int, offset: float, length: float, canvas: int) -> _Axis:
    """One dimension of the window: product start..stop of a photo lands at offset..offset + length of a canvas."""
    scale = length / (stop - start)
    skirt = math.ceil(3 * max(1.0, 1.0 / scale)) + 8  # the soft edge, and the bicubic kernel's support around it
    first, last = max(0, start - skirt), min(photo, stop + skirt)
    slack = 1e-6
    lo = max(0, math.floor(offset + (first - start) * scale + slack))
    hi = min(canvas, math.ceil(offset + (last - start) * scale - slack))
    exact = scale == 1.0 and float(offset).is_integer()
    return _Axis(
        source=slice(first, last),
        target=slice(lo, max(hi, lo + 1)),
        reach=math.ceil(2.0 / scale) + 1,
        lo=start - first + (lo - offset) / scale,
        hi=start - first + (max(hi, lo + 1) - offset) / scale,
        exact=exact,
    )


def _extended(rgb: U8, alpha: U8, window: _Window) -> U8:
    """Foreground colours carried outwards over transparent pixels, as far as the resample looks."""
    radius = 2 * window.reach + 1
    result = rgb.copy()
    crop, cover = rgb[window.source], alpha[window.source]
    weight = cover.astype(np.float32)
    total = cv2.blur(weight, (radius, radius), borderType=cv2.BORDER_REPLICATE)
    colour = cv2.blur(crop * weight[..., None], (radius, radius), borderType=cv2.BORDER_REPLICATE)
    filled = colour / np.maximum(total, 1e-3)[..., None]
    bare = cover < 16  # colours under almost transparent pixels are rounding noise
    result[window.source][bare] = np.clip(np.rint(filled[bare]), 0, 255).astype(np.uint8)
    return result
