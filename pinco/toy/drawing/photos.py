"""Packshot photos of drawn products, for the demo."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pinco.toy.drawing.products import COLOURS, KINDS, Product, draw_product

PHOTO_SIZE = (720, 720)
_SHARE = 0.78


def photograph(product: Product, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A photo of the product on a light studio backdrop, with a faint shadow and a little sensor noise.

    Args:
        product: drawn at most as large as `PHOTO_SIZE`.
        rng: the only source of randomness.

    Returns:
        uint8 `[H, W, 3]`.
    """
    width, height = PHOTO_SIZE
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    backdrop = np.broadcast_to(np.array((236, 237, 239), np.float32) + 8 * rows, (height, width, 3)).copy()
    tall, wide = product.rgba.shape[:2]
    x, y = (width - wide) // 2, round(height * 0.9) - tall
    alpha = np.zeros((height, width), np.float32)
    alpha[y : y + tall, x : x + wide] = product.rgba[..., 3] / 255.0
    shade = np.zeros((height, width), np.float32)
    cv2.ellipse(shade, (width // 2, y + tall - 2), (max(8, wide // 2), 9), 0, 0, 360, 0.22, -1, cv2.LINE_AA)
    backdrop *= 1 - cv2.GaussianBlur(shade, (0, 0), 7)[..., None]
    colours = np.zeros_like(backdrop)
    colours[y : y + tall, x : x + wide] = product.rgba[..., :3]
    photo = colours * alpha[..., None] + backdrop * (1 - alpha[..., None])
    photo += rng.standard_normal(photo.shape).astype(np.float32) * 0.8
    picture: NDArray[np.uint8] = np.round(np.clip(photo, 0, 255)).astype(np.uint8)
    return picture


def write_demo_photos(out: Path, products: int, seed: int) -> list[Path]:
    """Write photos of different products, every kind in turn; the same seed writes the same files.

    Args:
        out: folder of the photos, which are named `<sku>.jpg`. A sku is colour, kind and number: `red-mug-01`.
        products: how many.
        seed: decides the products.

    Returns:
        The paths of the photos.
    """
    out.mkdir(parents=True, exist_ok=True)
    kinds, colours = list(KINDS), [c for c in COLOURS if c != "white"]
    rng = np.random.default_rng([seed, 1])
    turn = int(rng.integers(len(colours)))
    written = []
    for number in range(products):
        # White is left out: a white product on a white backdrop is an uncertain mask, and would need a review.
        kind, colour = kinds[number % len(kinds)], colours[(turn + 3 * number) % len(colours)]
        product = draw_product(rng, round(PHOTO_SIZE[1] * _SHARE), kind, colour, colours)
        path = out / f"{colour}-{kind}-{number + 1:02d}.jpg"
        Image.fromarray(photograph(product, rng)).save(path, quality=95)
        written.append(path)
    return written
