"""Product scenes: a product in a place, with contact shadow, exact mask and caption."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pinco.toy.drawing.captions import caption
from pinco.toy.drawing.places import PLACES, draw_place
from pinco.toy.drawing.products import Product, draw_product

# Working sizes of the toy, (width, height): about 128 x 128 pixels each, all sides multiples of 16.
SIZES: tuple[tuple[int, int], ...] = ((128, 128), (160, 96), (96, 160))


@dataclass(frozen=True)
class Scene:
    """One drawn scene.

    Attributes:
        image: uint8 `[H, W, 3]`.
        layer: uint8 `[H, W, 4]`, the product alone at its position, straight alpha.
        place: a key of `places.PLACES`.
        product: the product at its own, larger size.
        caption: plain English.
    """

    image: NDArray[np.uint8]
    layer: NDArray[np.uint8]
    place: str
    product: Product
    caption: str


def shadow_under(layer_alpha: NDArray[np.float32], strength: float, lean: float) -> NDArray[np.float32]:
    """A soft contact shadow below the product's lowest rows.

    Args:
        layer_alpha: `[H, W]`, 0..1.
        strength: darkness at the contact, 0..1.
        lean: sideways shift as a share of the product's width.

    Returns:
        float32 `[H, W]`, the share of light that is taken away.
    """
    ys, xs = np.nonzero(layer_alpha > 0.5)
    bottom, width = int(ys.max()), int(xs.max() - xs.min() + 1)
    foot = xs[ys > bottom - max(2, int(0.06 * (bottom - ys.min() + 1)))]
    reach = max(2.0, 0.5 * float(foot.max() - foot.min() + 1))
    centre = (float(foot.min() + foot.max()) / 2 + lean * width, bottom)
    shade = np.zeros_like(layer_alpha)
    axes = (max(1, round(reach * 1.18)), max(1, round(reach * 0.2)))
    cv2.ellipse(shade, (round(centre[0]), round(centre[1])), axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    blur = max(0.8, 0.016 * min(layer_alpha.shape))
    return np.asarray(cv2.GaussianBlur(shade, (0, 0), blur) * strength, np.float32)


def put_on_canvas(
    product: Product, size: tuple[int, int], longer_side: float, centre: float, base: float
) -> NDArray[np.uint8]:
    """The product's layer on an empty canvas.

    Args:
        product: drawn larger than it is placed.
        size: canvas `(width, height)`, pixels.
        longer_side: pixels of the product's longer side on the canvas.
        centre: position of its middle, as a share of the canvas width.
        base: position of its foot, as a share of the canvas height.

    Returns:
        uint8 `[H, W, 4]`, straight alpha.
    """
    width, height = size
    rows, columns = product.rgba.shape[:2]
    scale = longer_side / max(rows, columns)
    box = max(2, round(columns * scale)), max(2, round(rows * scale))
    x = int(np.clip(round(centre * width - box[0] / 2), 0, width - box[0]))
    y = int(np.clip(round(base * height - box[1]), 0, height - box[1]))
    source = product.rgba.astype(np.float32)
    source[..., :3] *= source[..., 3:] / 255
    small = cv2.resize(source, box, interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:] / 255, 1e-3)
    layer = np.zeros((height, width, 4), np.uint8)
    layer[y : y + box[1], x : x + box[0]] = np.round(np.clip(small, 0, 255))
    return layer


def draw_scene(
    rng: np.random.Generator, size: tuple[int, int] = (128, 128), place: str | None = None, kind: str | None = None
) -> Scene:
    """Draw one scene.

    The product is drawn once and kept at its own, larger size too, so that the whole preprocessing can be run on it.

    Args:
        rng: the only source of randomness.
        size: (width, height) in pixels.
        place: a key of `places.PLACES`; drawn when left out.
        kind: a key of `products.KINDS`; drawn when left out.
    """
    width, height = size
    names = list(PLACES)
    place = place or names[rng.integers(len(names))]
    product = draw_product(rng, 160, kind)
    rows, columns = product.rgba.shape[:2]
    # Fill 50 to 74 % of the canvas along the side that limits the product.
    room = min(width / columns, height / rows) * max(rows, columns)
    longer = room * rng.uniform(0.5, 0.74)
    layer = put_on_canvas(product, size, longer, rng.uniform(0.38, 0.62), rng.uniform(0.8, 0.93))
    alpha = np.asarray(layer[..., 3] / np.float32(255), np.float32)
    # Drawn at twice the size and averaged: OpenCV's thin lines alias at 128 px.
    horizon = int(height * rng.uniform(0.5, 0.66))
    ground = cv2.resize(
        draw_place(rng, place, width * 2, height * 2, horizon * 2), (width, height), interpolation=cv2.INTER_AREA
    )
    shade = shadow_under(alpha, rng.uniform(0.45, 0.65), rng.uniform(-0.08, 0.12))
    image = ground * (1 - shade[..., None]) * (1 - alpha[..., None]) + layer[..., :3] * alpha[..., None]
    text = caption(rng, place, product.kind, product.colour)
    return Scene(np.round(np.clip(image, 0, 255)).astype(np.uint8), layer, place, product, text)
