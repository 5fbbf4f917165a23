"""Measures of a picture against the product that it shows. All arrays are uint8."""

from __future__ import annotations

import math

import numpy as np

from preprocessing.arrays import U8, Bits
from preprocessing.canvas import Layer


def core_identical(final: U8, layer: Layer) -> bool:
    """Whether a final picture holds the product's bytes wherever the layer's alpha is 255.

    Args:
        final: `[H, W, 3]`.
        layer: The product, resampled from its source again. A layer that the picture was made from proves nothing.

    Returns:
        False also for a product without a single opaque pixel: it has no core to compare.

    Raises:
        ValueError: Picture and layer differ in size.
    """
    if final.shape != layer.rgb.shape:
        raise ValueError(f"the picture is {final.shape}, the product's layer {layer.rgb.shape}")
    core = layer.alpha == 255
    return bool(core.any()) and bool(np.array_equal(final[core], layer.rgb[core]))


def extension(source_alpha: U8, segmented: U8, segmented_source: U8 | None = None) -> float:
    """How far the subject grew past its mask, as a share of its area (arXiv 2404.10157, section 4).

    `(area(m_out U m_in) - area(m_in)) / area(m_in)`, on the raw image before the product is pasted back.

    Args:
        source_alpha: `[h, w]`, the canvas's alpha; 128 and more is product.
        segmented: `[h, w]`, the mask that a segmenter finds in the raw image without knowing the alpha.
        segmented_source: `[h, w]`, the mask that it finds in the source canvas. Its own error there is subtracted, so
            that the result can be slightly negative.

    Raises:
        ValueError: The source mask is empty.
    """
    value = _share(~_bits(source_alpha) & _bits(segmented), source_alpha)
    return value if segmented_source is None else value - extension(source_alpha, segmented_source)


def shrinkage(source_alpha: U8, segmented: U8, segmented_source: U8 | None = None) -> float:
    """How much of the subject was lost: `area(m_in - m_out) / area(m_in)`. Arguments and errors as for `extension`."""
    value = _share(_bits(source_alpha) & ~_bits(segmented), source_alpha)
    return value if segmented_source is None else value - shrinkage(source_alpha, segmented_source)


def psnr(picture: U8, truth: U8, where: U8 | None = None) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures in dB.

    Args:
        picture: `[H, W, 3]`.
        truth: `[H, W, 3]`.
        where: `[H, W]`; only its fully opaque pixels (255) count. None counts all.

    Returns:
        0 or more; infinite where the pictures are equal.

    Raises:
        ValueError: The shapes differ, or `where` has no opaque pixel.
    """
    if picture.shape != truth.shape:
        raise ValueError(f"cannot compare a picture of {picture.shape} with one of {truth.shape}")
    error = (picture.astype(np.float64) - truth.astype(np.float64)) ** 2
    if where is not None:
        inside = where == 255
        if not inside.any():
            raise ValueError("the mask has no opaque pixel to compare")
        error = error[inside]
    return psnr_of_error(float(error.mean()))


def psnr_of_error(mean_square: float, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB, `10 log10(peak^2 / mean_square)`; infinite without an error.

    Args:
        mean_square: Mean of the squared differences.
        peak: The largest difference that values can have.
    """
    return math.inf if mean_square == 0 else 10 * math.log10(peak**2 / mean_square)


def _bits(mask: U8) -> Bits:
    return np.asarray(mask >= 128)


def _share(part: Bits, source_alpha: U8) -> float:
    area = int(_bits(source_alpha).sum())
    if area == 0:
        raise ValueError("the source mask is empty, there is no area to relate to")
    return float(part.sum() / area)
