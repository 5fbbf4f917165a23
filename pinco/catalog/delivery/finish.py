"""Raw image and product layer to the finished picture, at delivery size.

The background comes from the model, the product from its photo. The product is placed over the background last, so that
nothing that is done to the background (enlarging, colour conversion, shadow) changes the core.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from PIL import Image

from preprocessing.arrays import F32, U8
from preprocessing.blend import blend
from preprocessing.canvas import Layer
from preprocessing.colour import convert

Shadow = Literal["none", "contact-1"]
"""Names of the shadow recipes. The name is part of the generation id, so another look needs another name."""


def finish(raw: U8, layer: Layer, *, icc: bytes | None = None, shadow: Shadow = "none") -> U8:
    """The final picture: the product over the enlarged background.

    Args:
        raw: `[h, w, 3]` in sRGB, the model's image: the same composition at working size.
        layer: The product at delivery size, in the colours of `icc`.
        icc: The photo's profile, which the picture keeps: the background is converted to it. None = sRGB.
        shadow: "contact-1" darkens the background under the product; "none" leaves shadows to the model.

    Returns:
        `[H, W, 3]` at the size of `layer`: its bytes where alpha is 255, a blend on the soft edge.

    Raises:
        ValueError: The shadow is unknown.
    """
    height, width = layer.alpha.shape
    background = enlarge(raw, (width, height))
    if icc is not None:
        background = convert(background, None, icc)
    if shadow == "contact-1":
        darkness = contact_shadow(layer.alpha)[..., None]
        background = np.asarray(np.rint(background * (1.0 - darkness)), np.uint8)
    elif shadow != "none":
        raise ValueError(f"shadow must be none or contact-1, not {shadow!r}")
    return over(layer, background)


def enlarge(raw: U8, size: tuple[int, int]) -> U8:
    """`raw` at `size` (width, height), by Pillow's Lanczos: integer arithmetic, the same bytes on every machine."""
    if (raw.shape[1], raw.shape[0]) == size:
        return raw
    return np.asarray(Image.fromarray(raw).resize(size, Image.Resampling.LANCZOS), np.uint8)


def over(layer: Layer, background: U8) -> U8:
    """The layer over a background `[H, W, 3]`, rounded to nearest; exact where alpha is 0 or 255."""
    result = background.copy()
    core, edge = layer.alpha == 255, (layer.alpha > 0) & (layer.alpha < 255)
    result[core] = layer.rgb[core]
    result[edge] = blend(layer.rgb[edge], layer.alpha[edge], background[edge])
    return result


def layer_to_srgb(layer: Layer, icc: bytes | None) -> Layer:
    """The layer for a channel that wants sRGB: its core is identical to the named conversion of the photo.

    Args:
        layer: In the colours of `icc`.
        icc: The photo's profile; None = sRGB.
    """
    return Layer(np.where(layer.alpha[..., None] > 0, convert(layer.rgb, icc, None), np.uint8(0)), layer.alpha)


def contact_shadow(alpha: U8) -> F32:
    """How much a standing product darkens the surface below it.

    A dark line at the foot, and a wider soft one around it. The foot is, column by column, the lowest part of the
    product, where that is within a tenth of the product's height of its lowest point: so both shoes of a pair stand,
    and a handle in the air does not.

    Args:
        alpha: `[H, W]`.

    Returns:
        `[H, W]`, the share of light that is taken away, 0..1.
    """
    height, width = alpha.shape
    factor = min(1.0, 512 / max(height, width))  # a shadow has no detail
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    product = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.uint8) >= 128
    if not product.any():
        return np.zeros(alpha.shape, np.float32)
    rows = np.flatnonzero(product.any(axis=1))
    columns = np.flatnonzero(product.any(axis=0))
    tall, wide = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    lowest = np.where(product.any(axis=0), size[1] - 1 - product[::-1].argmax(axis=0), -1)
    stands = lowest > rows[-1] - max(1.0, 0.1 * tall)

    y = np.arange(size[1])[:, None]
    unit = float(np.sqrt(tall * wide))
    foot = (stands & (y <= lowest + 0.02 * unit) & (y > lowest - 0.03 * unit)).astype(np.float32)
    line = cv2.GaussianBlur(foot, (0, 0), sigmaX=0.02 * unit + 0.5, sigmaY=0.012 * unit + 0.5)
    pool = cv2.GaussianBlur(foot, (0, 0), sigmaX=0.12 * unit + 0.5, sigmaY=0.06 * unit + 0.5)
    shadow = 0.4 * line / max(float(line.max()), 1e-6) + 0.35 * pool / max(float(pool.max()), 1e-6)
    return np.asarray(cv2.resize(shadow, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
