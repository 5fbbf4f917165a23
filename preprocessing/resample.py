"""The product's pixels on a canvas, resampled once from their source."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from preprocessing.arrays import U8
from preprocessing.cutout import Cutout

RESAMPLE = "pillow-bicubic-extended-1"
"""The one resample of the product: Pillow's antialiased bicubic (integer arithmetic: the same bytes on every machine)
on straight colours that are extended past the silhouette, so that neither overshoot nor black tints the edge."""


@dataclass(frozen=True)
class Box:
    """Where the product's bounding box is placed, in pixels of a canvas (not necessarily whole ones)."""

    x: float
    y: float
    width: float
    height: float

    def scaled(self, horizontal: float, vertical: float) -> Box:
        """The same box on a canvas whose sides are longer by these factors."""
        return Box(self.x * horizontal, self.y * vertical, self.width * horizontal, self.height * vertical)


@dataclass(frozen=True)
class Layer:
    """The product on an empty canvas, resampled once from its source.

    Attributes:
        rgb: `[h, w, 3]`, 0 where alpha is 0.
        alpha: `[h, w]`.
    """

    rgb: U8
    alpha: U8


def resample(cutout: Cutout, box: Box, size: tuple[int, int]) -> Layer:
    """Place the product's pixels on an empty canvas.

    At scale 1 on whole pixels this copies bytes; else it is the resample named `RESAMPLE`.

    Args:
        cutout: The product.
        box: Where its bounding box is placed.
        size: (width, height) of the canvas in pixels.
    """
    window = Window.of(cutout, box, size)
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    alpha = np.zeros((size[1], size[0]), np.uint8)
    cover, colours = cutout.alpha[window.source], cutout.rgb[window.source]
    alpha[window.target] = window.pull(cover)
    rgb[window.target] = window.pull(colours if window.exact else _extended(colours, cover, window.reach))
    rgb[alpha == 0] = 0
    return Layer(rgb, alpha)


@dataclass(frozen=True)
class Window:
    """The part of the photo that is used, and the whole pixels of the canvas that it maps to.

    Attributes:
        source: Rows and columns of the photo.
        target: Rows and columns of the canvas.
        reach: Pixels to repeat around the source crop, so that the target's outer pixels are covered.
        span: (left, top, right, bottom) of the target in coordinates of the padded crop.
        exact: Whether pixels are copied: scale 1 on whole pixels.
    """

    source: tuple[slice, slice]
    target: tuple[slice, slice]
    reach: int
    span: tuple[float, float, float, float]
    exact: bool

    @classmethod
    def of(cls, cutout: Cutout, box: Box, size: tuple[int, int]) -> Window:
        """The window of a cutout whose bounding box is placed at `box` on a canvas of `size` (width, height)."""
        bbox, extent, photo = cutout.bbox, cutout.extent, cutout.size
        horizontal = _axis(bbox[::2], extent[::2], photo[0], box.x, box.width, size[0])
        vertical = _axis(bbox[1::2], extent[1::2], photo[1], box.y, box.height, size[1])
        reach = max(horizontal.reach, vertical.reach)
        return cls(
            source=(vertical.source, horizontal.source),
            target=(vertical.target, horizontal.target),
            reach=reach,
            span=(horizontal.lo + reach, vertical.lo + reach, horizontal.hi + reach, vertical.hi + reach),
            exact=horizontal.exact and vertical.exact,
        )

    def pull(self, crop: U8) -> U8:
        """Resample to the target's pixels.

        Args:
            crop: `[h, w]` or `[h, w, 3]`, an image cropped to `source`.

        Returns:
            An image of the target's size.
        """
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


def _axis(
    bbox: tuple[int, int], extent: tuple[int, int], photo: int, offset: float, length: float, canvas: int
) -> _Axis:
    """One dimension of the window: the product's `bbox` is placed at offset..offset + length of the canvas, together
    with its faint surroundings up to `extent`."""
    start, stop = bbox
    scale = length / (stop - start)
    skirt = math.ceil(3 * max(1.0, 1.0 / scale)) + 2  # what the bicubic kernel blurs past the extent
    first, last = max(0, extent[0] - skirt), min(photo, extent[1] + skirt)
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


def _extended(rgb: U8, alpha: U8, reach: int) -> U8:
    """Foreground colours extended outwards over transparent pixels, as far as the resample reads.

    Sums of whole numbers throughout (in float64 too, where they are exact), over blocks of `reach` pixels: the pixels
    of the core that the resample mixes with these are the same on every machine.
    """
    solid = (alpha >= 16).astype(np.uint8)  # colours under almost transparent pixels are rounding noise
    weight = np.asarray(_block_sums(solid[..., None], reach)[:, :, 0])
    colour = _block_sums(np.asarray(cv2.bitwise_and(rgb, rgb, mask=solid), np.uint8), reach)
    blocks = np.zeros(colour.shape, np.uint8)
    empty = np.ones(weight.shape, bool)
    for size in (1, 3, 9, 27):
        count = cv2.boxFilter(weight, -1, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT)
        total = cv2.boxFilter(colour, -1, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT)
        found = empty & (count > 0)
        blocks[found] = np.rint(total[found] / count[found][:, None]).astype(np.uint8)
        empty &= ~found
    rows, columns = weight.shape
    grown = cv2.resize(blocks, (columns * reach, rows * reach), interpolation=cv2.INTER_NEAREST)[
        : rgb.shape[0], : rgb.shape[1]
    ]
    return np.asarray(cv2.copyTo(rgb, solid, np.ascontiguousarray(grown)), np.uint8)


def _block_sums(image: U8, side: int) -> NDArray[np.float64]:
    """Sums over blocks of `side` x `side` pixels of `[H, W, C]`; pixels beyond the far edges count as 0."""
    height, width, channels = image.shape
    bottom, right = -height % side, -width % side
    padded = np.pad(image, ((0, bottom), (0, right), (0, 0)))
    rows = padded.reshape(-1, side, (width + right) * channels).sum(axis=1, dtype=np.uint32)
    columns = rows.reshape(len(rows), -1, side, channels).sum(axis=2, dtype=np.uint32)
    return np.asarray(columns, np.float64)
