"""The product's pixels brought to a canvas, once, from their source."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from preprocessing.arrays import U8
from preprocessing.cutout import Cutout

RESAMPLE = "pillow-bicubic-extended-1"
"""The one resample of the product: Pillow's antialiased bicubic (integer arithmetic: the same bytes on every machine)
on straight colours that are extended past the silhouette: neither overshoot nor a black ground tints the edge."""


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


def resample(cutout: Cutout, box: Box, size: tuple[int, int]) -> Layer:
    """Bring the product's pixels to `box` on an empty canvas of `size` (width, height).

    At scale 1 on whole pixels this copies bytes; else it is the resample named `RESAMPLE`.
    """
    window = Window.of(cutout, box, size)
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    alpha = np.zeros((size[1], size[0]), np.uint8)
    alpha[window.target] = window.pull(cutout.alpha)
    source = cutout.rgb if window.exact else _extended(cutout.rgb, cutout.alpha, window)
    rgb[window.target] = window.pull(source)
    rgb[alpha == 0] = 0
    return Layer(rgb, alpha)


@dataclass(frozen=True)
class Window:
    """The part of the photo that matters, and the whole pixels of the canvas that it maps to."""

    source: tuple[slice, slice]
    target: tuple[slice, slice]
    reach: int  # pixels to repeat around the source crop, so that the target's outer pixels are covered
    span: tuple[float, float, float, float]  # the target in coordinates of the padded crop
    exact: bool

    @classmethod
    def of(cls, cutout: Cutout, box: Box, size: tuple[int, int]) -> Window:
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
        reach = self.reach
        padded = cv2.copyMakeBorder(crop, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
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


def _extended(rgb: U8, alpha: U8, window: Window) -> U8:
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
