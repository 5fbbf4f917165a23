"""Procedural products: six kinds in eight colours, drawn with OpenCV on a transparent tile, with an exact alpha."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40),
    "green": (35, 150, 60),
    "blue": (45, 80, 205),
    "yellow": (235, 200, 40),
    "white": (238, 238, 235),
    "black": (42, 42, 48),
    "purple": (140, 50, 170),
    "orange": (240, 130, 30),
}

Colour = NDArray[np.float32]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Product:
    """One drawn product.

    Attributes:
        rgba: uint8 `[H, W, 4]`, straight (not premultiplied) alpha, cropped to the product.
        kind: one of `KINDS`.
        colour: the body's name in `COLOURS`.
        accent: the second colour's name (label, stripe, sole).
    """

    rgba: NDArray[np.uint8]
    kind: str
    colour: str
    accent: str


class Tile:
    """A square canvas in unit coordinates: x to the right, y down, both 0..1.

    Args:
        side: pixels.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self.rgb = np.zeros((side, side, 3), np.float32)
        self.alpha = np.zeros((side, side), np.uint8)
        axis = (np.arange(side, dtype=np.float32) + 0.5) / side
        self.x = np.broadcast_to(axis[None, :], (side, side))
        self.y = np.broadcast_to(axis[:, None], (side, side))

    def polygon(self, points: Points) -> NDArray[np.bool_]:
        """The region inside `points`, as a boolean `[side, side]`."""
        region = np.zeros((self.side, self.side), np.uint8)
        cv2.fillPoly(region, [np.round(np.array(points, np.float32) * self.side).astype(np.int32)], 1)
        return region.astype(bool)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> NDArray[np.bool_]:
        """The region inside an ellipse with centre (cx, cy) and half axes (rx, ry), as a boolean `[side, side]`."""
        return ((self.x - cx) / rx) ** 2 + ((self.y - cy) / ry) ** 2 <= 1

    def fill(self, region: NDArray[np.bool_], colour: Colour) -> NDArray[np.bool_]:
        """Paint `region` and make it part of the product."""
        self.rgb[region] = colour
        self.alpha[region] = 255
        return region

    def paint(self, region: NDArray[np.bool_], colour: Colour) -> None:
        """Paint only what already belongs to the product (labels and stripes never widen the silhouette)."""
        self.rgb[region & (self.alpha > 0)] = colour

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: Colour, width: float) -> None:
        stroke = np.zeros((self.side, self.side), np.uint8)
        ends = [(round(x * self.side), round(y * self.side)) for x, y in (start, end)]
        cv2.line(stroke, ends[0], ends[1], 1, max(1, round(width * self.side)))
        self.paint(stroke.astype(bool), colour)

    def shade(self, region: NDArray[np.bool_], factor: NDArray[np.float32]) -> None:
        """Multiply the colours of a region by `factor` `[side, side]`."""
        self.rgb[region] *= np.broadcast_to(factor[..., None], self.rgb.shape)[region]

    def round_light(self, region: NDArray[np.bool_], left: float, right: float, strength: float = 0.42) -> None:
        """Light an upright cylinder between `left` and `right` from the upper left: dark flanks, one bright band."""
        across = np.clip((self.x - left) / (right - left) * 2 - 1, -1, 1)
        flank = 1 - strength * np.abs(across) ** 2.4
        band = 1 + 0.28 * np.exp(-(((across + 0.42) / 0.17) ** 2))
        self.shade(region, (flank * band).astype(np.float32))


def _bottle(tile: Tile, rng: np.random.Generator, body: Colour, accent: Colour) -> None:
    half = rng.uniform(0.13, 0.17)
    neck = half * rng.uniform(0.36, 0.46)
    shoulder = rng.uniform(0.30, 0.36)
    top, bottom = 0.03, 0.97
    curve = [
        (half - (half - neck) * np.sin(t), shoulder - 0.11 * (1 - np.cos(t))) for t in np.linspace(0, np.pi / 2, 10)
    ]
    right = [(0.5 + dx, y) for dx, y in curve]
    left = [(0.5 - dx, y) for dx, y in reversed(curve)]
    outline = [
        (0.5 - half, bottom),
        *[(0.5 - half, shoulder)],
        *left[::-1],
        (0.5 - neck, top),
        (0.5 + neck, top),
        *right[::-1],
        (0.5 + half, shoulder),
        (0.5 + half, bottom),
    ]
    region = tile.fill(tile.polygon(outline), body)
    label_top, label_bottom = rng.uniform(0.5, 0.56), rng.uniform(0.78, 0.86)
    tile.paint((tile.y > label_top) & (tile.y < label_bottom), accent)
    middle = (label_top + label_bottom) / 2
    if rng.random() < 0.6:
        tile.paint(tile.ellipse(0.5, middle, half * 0.5, half * 0.5), body)
    else:
        tile.paint(np.abs(tile.y - middle) < 0.025, body)
    tile.paint(tile.y < 0.12, accent * 0.8)
    tile.round_light(region, 0.5 - half, 0.5 + half)


def _mug(tile: Tile, rng: np.random.Generator, body: Colour, accent: Colour) -> None:
    half, top, bottom = rng.uniform(0.27, 0.31), 0.16, 0.92
    side = rng.choice([-1, 1])
    centre = 0.5 - side * 0.12
    handle_x = centre + side * half
    outer = tile.ellipse(handle_x, 0.52, 0.21, 0.24)
    inner = tile.ellipse(handle_x, 0.52, 0.12, 0.15)
    tile.fill(outer & ~inner & (side * (tile.x - handle_x) > -0.02), body * 0.82)
    wall = tile.polygon(
        [(centre - half, top), (centre + half, top), (centre + half * 0.94, bottom), (centre - half * 0.94, bottom)]
    )
    region = tile.fill(wall | tile.ellipse(centre, bottom, half * 0.94, 0.045), body)
    if rng.random() < 0.55:
        start = rng.uniform(0.38, 0.6)
        tile.paint(region & (tile.y > start) & (tile.y < start + 0.16), accent)
    else:
        tile.paint(region & tile.ellipse(centre, 0.56, 0.14, 0.14), accent)
    tile.round_light(region, centre - half, centre + half)
    tile.fill(tile.ellipse(centre, top, half, 0.07), np.minimum(body * 1.1 + 10, 255))
    tile.fill(tile.ellipse(centre, top + 0.008, half * 0.88, 0.052), body * 0.45)


def _box(tile: Tile, rng: np.random.Generator, body: Colour, accent: Colour) -> None:
    half, deep = rng.uniform(0.29, 0.34), rng.uniform(0.16, 0.26)
    top, bottom, rise = rng.uniform(0.14, 0.34), 0.96, deep * 0.5
    side = rng.choice([-1, 1])

    def at(x: float, y: float) -> tuple[float, float]:
        return 0.5 + side * (x - deep / 2), y

    flank = [at(half, top), at(half + deep, top - rise), at(half + deep, bottom - rise), at(half, bottom)]
    lid = [at(-half, top), at(half, top), at(half + deep, top - rise), at(-half + deep, top - rise)]
    front = [at(-half, top), at(half, top), at(half, bottom), at(-half, bottom)]
    tile.fill(tile.polygon(flank), body * 0.62)
    tile.fill(tile.polygon(lid), np.minimum(body * 1.12 + 18, 255))
    tile.fill(tile.polygon(front), body * 0.93)
    if rng.random() < 0.5:
        ribbon = half * 0.24
        tile.paint(tile.polygon([at(-ribbon, top), at(ribbon, top), at(ribbon, bottom), at(-ribbon, bottom)]), accent)
        tile.paint(
            tile.polygon(
                [at(-ribbon, top), at(ribbon, top), at(ribbon + deep, top - rise), at(-ribbon + deep, top - rise)]
            ),
            np.minimum(accent * 1.1 + 12, 255),
        )
    else:
        high, low = top + (bottom - top) * 0.3, top + (bottom - top) * 0.64
        label = [at(-half * 0.6, high), at(half * 0.6, high), at(half * 0.6, low), at(-half * 0.6, low)]
        tile.paint(tile.polygon(label), accent)


def _lamp(tile: Tile, rng: np.random.Generator, body: Colour, accent: Colour) -> None:
    wide = rng.uniform(0.26, 0.32)
    narrow, drop = wide * rng.uniform(0.5, 0.68), rng.uniform(0.42, 0.48)
    stem = tile.fill(tile.polygon([(0.475, 0.3), (0.525, 0.3), (0.525, 0.93), (0.475, 0.93)]), accent * 0.85)
    foot = tile.fill(tile.ellipse(0.5, 0.925, wide * 0.62, 0.052), accent * 0.85)
    tile.round_light(stem, 0.475, 0.525, 0.3)
    tile.round_light(foot, 0.5 - wide * 0.62, 0.5 + wide * 0.62, 0.3)
    shade = tile.fill(
        tile.polygon([(0.5 - narrow, 0.03), (0.5 + narrow, 0.03), (0.5 + wide, drop), (0.5 - wide, drop)]), body
    )
    tile.paint(shade & (tile.y > drop * 0.84), accent)
    if rng.random() < 0.4:
        tile.paint(shade & (tile.y < 0.08), accent)
    tile.round_light(shade, 0.5 - wide, 0.5 + wide, 0.34)


def _shoe(tile: Tile, rng: np.random.Generator, body: Colour, accent: Colour) -> None:
    side = rng.choice([-1, 1])
    height = rng.uniform(0.46, 0.54)

    def at(x: float, y: float) -> tuple[float, float]:
        return 0.5 + side * 0.46 * x, 0.78 - height * y

    upper = [
        (-1, 0.14),
        (-0.99, 0.62),
        (-0.9, 1.0),
        (-0.32, 1.0),
        (-0.12, 0.8),
        (0.3, 0.56),
        (0.72, 0.46),
        (0.93, 0.32),
        (1, 0.14),
    ]
    region = tile.fill(tile.polygon([at(*p) for p in upper]), body)
    tile.shade(region, np.clip(1.12 - 0.9 * (tile.y - (0.78 - height)), 0.6, 1.12).astype(np.float32))
    tile.paint(tile.polygon([at(*p) for p in ((-0.99, 0.5), (-0.95, 0.9), (-0.66, 0.86), (-0.74, 0.46))]), accent)
    for k in range(4):
        tile.line(at(-0.08 + k * 0.15, 0.74 - k * 0.075), at(-0.3 + k * 0.15, 0.44 - k * 0.045), accent, 0.026)
    sole = np.array((92, 92, 98) if body.mean() > 190 else (236, 233, 226), np.float32)
    tile.fill(tile.polygon([at(*p) for p in ((-1.03, 0), (1.0, 0), (1.05, 0.09), (1.02, 0.17), (-1.02, 0.17))]), sole)


def _watch(tile: Tile, rng: np.random.Generator, body: Colour, accent: Colour) -> None:
    dial, strap = rng.uniform(0.23, 0.27), rng.uniform(0.12, 0.15)
    bands = [
        tile.fill(
            tile.polygon(
                [(0.5 - strap * 0.82, end), (0.5 + strap * 0.82, end), (0.5 + strap, 0.5), (0.5 - strap, 0.5)]
            ),
            body * 0.88,
        )
        for end in (0.02, 0.98)
    ]
    tile.round_light(bands[0] | bands[1], 0.5 - strap, 0.5 + strap, 0.3)
    for y in (0.1, 0.17, 0.83, 0.9):
        tile.paint(tile.ellipse(0.5, y, 0.017, 0.017), np.array((25, 25, 28), np.float32))
    tile.fill(tile.ellipse(0.5, 0.5, dial, dial), body)
    tile.paint(
        tile.ellipse(0.5, 0.5, dial, dial) & ~tile.ellipse(0.51, 0.51, dial * 0.95, dial * 0.95), body * 1.15 + 20
    )
    tile.paint(tile.ellipse(0.5, 0.5, dial * 0.8, dial * 0.8), accent)
    ink = np.array((20, 20, 24) if accent.mean() > 110 else (245, 245, 245), np.float32)
    for length, width in ((0.66, 0.022), (0.46, 0.03)):
        turn = rng.uniform(0, 2 * np.pi)
        tile.line((0.5, 0.5), (0.5 + length * dial * np.cos(turn), 0.5 + length * dial * np.sin(turn)), ink, width)


KINDS: dict[str, Callable[[Tile, np.random.Generator, Colour, Colour], None]] = {
    "bottle": _bottle,
    "mug": _mug,
    "box": _box,
    "lamp": _lamp,
    "shoe": _shoe,
    "watch": _watch,
}


def draw_product(
    rng: np.random.Generator,
    height: int,
    kind: str | None = None,
    colour: str | None = None,
    accents: Collection[str] = tuple(COLOURS),
) -> Product:
    """Draw one product about `height` pixels along its longer side.

    Args:
        rng: the only source of randomness; the same state draws the same product.
        height: pixels of the tile's side; the result is cropped to the product itself.
        kind: a key of `KINDS`; drawn when left out.
        colour: a key of `COLOURS`; drawn when left out.
        accents: keys of `COLOURS` that the second colour is drawn from, as far as they differ enough from the first.
    """
    names = list(COLOURS)
    kind = kind or list(KINDS)[rng.integers(len(KINDS))]
    colour = colour or names[rng.integers(len(names))]
    body = np.array(COLOURS[colour], np.float32)
    far = [n for n in names if n in accents and np.abs(np.array(COLOURS[n]) - body).sum() > 130]
    accent = far[rng.integers(len(far))]
    # Three samples a pixel each way; large photos are smooth enough with two.
    tile = Tile(max(96, height * (3 if height <= 200 else 2)))
    tint = rng.uniform(-10, 10, 3).astype(np.float32)
    KINDS[kind](tile, rng, np.clip(body + tint, 0, 255), np.array(COLOURS[accent], np.float32))
    return Product(_shrink(tile, height), kind, colour, accent)


def _shrink(tile: Tile, side: int) -> NDArray[np.uint8]:
    """Area-average the premultiplied tile to `side` pixels, crop it to its alpha, and undo the premultiplication."""
    cover = (tile.alpha.astype(np.float32) / 255)[..., None]
    board = np.concatenate([np.clip(tile.rgb, 0, 255) * cover, cover], axis=2)
    small = cv2.resize(board, (side, side), interpolation=cv2.INTER_AREA)
    ys, xs = np.nonzero(small[..., 3] > 0.002)
    small = small[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    rgb = small[..., :3] / np.maximum(small[..., 3:], 1e-4)
    rgba: NDArray[np.uint8] = np.round(np.concatenate([np.clip(rgb, 0, 255), small[..., 3:] * 255], axis=2)).astype(
        np.uint8
    )
    return rgba
