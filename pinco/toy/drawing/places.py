"""Procedural places: eight backgrounds with a horizon, drawn with OpenCV at any size."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Painter = Callable[[np.random.Generator, int, int, int], Image]

# All lengths below are for a picture whose shorter side is 128 px; at other sizes they are scaled.
_REFERENCE = 128.0


def _unit(width: int, height: int) -> float:
    return min(width, height) / _REFERENCE


def _noise(rng: np.random.Generator, height: int, width: int, cell: tuple[float, float]) -> Image:
    """Smooth noise `[height, width, 1]`, standard normal at the knots, which lie `cell` = (rows, columns) px apart."""
    rows, columns = max(2, int(np.ceil(height / cell[0]))), max(2, int(np.ceil(width / cell[1])))
    knots = rng.standard_normal((rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC)[..., None], np.float32)


def _tinted(rng: np.random.Generator, colour: tuple[float, float, float], spread: float = 9) -> Image:
    return (np.array(colour, np.float32) + rng.uniform(-spread, spread)).astype(np.float32)


def _gradient(height: int, width: int, top: Image, bottom: Image) -> Image:
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top * (1 - t) + bottom * t, (height, width, 3)).copy()


def _table(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image:
    u = _unit(width, height)
    image = _gradient(height, width, _tinted(rng, (226, 212, 190)), _tinted(rng, (198, 180, 156)))
    depth = height - horizon
    wood = _tinted(rng, (152, 97, 54), 12)
    floor = wood + _noise(rng, depth, width, (2.2 * u, 34 * u)) * 13 + _noise(rng, depth, width, (1.2 * u, 12 * u)) * 4
    planks = int(rng.integers(3, 6))
    # Planks lie across the picture and get narrower towards the horizon.
    edges = [int(depth * (k / planks) ** 1.35) for k in range(planks + 1)]
    for top, bottom in pairwise(edges):
        floor[top:bottom] += rng.uniform(-13, 13)
        floor[top : top + max(1, round(1.1 * u))] = wood * 0.52
    image[horizon:] = floor
    return image


def _marble(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image:
    u = _unit(width, height)
    image = np.zeros((height, width, 3), np.float32) + _tinted(rng, (229, 229, 232), 6)
    image += _noise(rng, height, width, (20 * u, 20 * u)) * 6
    for _ in range(int(rng.integers(4, 7))):
        at = np.array([rng.uniform(0, width), rng.uniform(-12, 0) * u])
        turn, path = rng.uniform(0.6, 2.4), []
        for _ in range(18):
            path.append(at)
            turn += rng.uniform(-0.5, 0.5)
            at = at + 13 * u * np.array([np.cos(turn), abs(np.sin(turn))])
        grey = float(rng.uniform(130, 172))
        points = np.round(np.array(path)).astype(np.int32)
        cv2.polylines(
            image, [points], False, (grey, grey, grey + 6), max(1, round(rng.uniform(1, 2.4) * u)), cv2.LINE_AA
        )
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.7 * u), np.float32)
    image[:horizon] -= 20
    return image


def _grass(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image:
    u = _unit(width, height)
    image = np.empty((height, width, 3), np.float32)
    image[:horizon] = _gradient(horizon, width, _tinted(rng, (118, 178, 235)), _tinted(rng, (206, 229, 245)))
    image[horizon:] = _gradient(height - horizon, width, _tinted(rng, (84, 156, 54)), _tinted(rng, (46, 106, 28)))
    for _ in range(int(rng.integers(240, 320) * width / height)):
        x, y, length = rng.uniform(0, width), rng.uniform(horizon, height + 6 * u), rng.uniform(3, 8) * u
        tone = rng.uniform(0.66, 1.4)
        tip = (round(x + rng.uniform(-2.5, 2.5) * u), round(y - length))
        blade = (76 * tone, 146 * tone, 46 * tone)
        cv2.line(image, (round(x), round(y)), tip, blade, max(1, round(1.1 * u)), cv2.LINE_AA)
    return image


def _sand(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image:
    u = _unit(width, height)
    image = np.empty((height, width, 3), np.float32)
    image[:horizon] = _gradient(horizon, width, _tinted(rng, (148, 204, 226)), _tinted(rng, (226, 236, 236)))
    depth = height - horizon
    rows, columns = np.mgrid[0:depth, 0:width].astype(np.float32) / u
    ripples = rows * rng.uniform(0.42, 0.62) + columns * rng.uniform(-0.05, 0.05)
    waves = np.sin(ripples + 2.3 * _noise(rng, depth, width, (26 * u, 34 * u))[..., 0]) * 12
    grain = rng.standard_normal((depth, width, 1)).astype(np.float32) * 4
    image[horizon:] = _tinted(rng, (227, 197, 141), 8) + waves[..., None] + grain
    return image


def _brick(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image:
    u = _unit(width, height)
    image = np.zeros((height, width, 3), np.float32) + _tinted(rng, (202, 192, 182), 8)
    tall, long, joint = 12.5 * u, 25 * u, max(1, round(1.2 * u))
    lift, slide = rng.uniform(0, tall), rng.uniform(0, long)
    for row in range(int(horizon / tall) + 2):
        y = row * tall - lift
        for column in range(-1, int(width / long) + 2):
            x = column * long - slide + (long / 2 if row % 2 else 0)
            tone = np.array((166, 72, 52)) + rng.uniform(-20, 20)
            corners = (round(x) + joint, round(y) + joint), (round(x + long) - joint, round(y + tall) - joint)
            cv2.rectangle(image, *corners, tuple(float(v) for v in tone), -1)
    image[:horizon] += _noise(rng, horizon, width, (4 * u, 4 * u)) * 4
    depth = height - horizon
    image[horizon:] = _tinted(rng, (122, 117, 113)) + _noise(rng, depth, width, (4 * u, 7 * u)) * 6
    return image


def _studio(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image:
    colour = _tinted(rng, (66, 118, 204), 12)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    from_light = np.hypot(columns - width * rng.uniform(0.3, 0.7), rows - height * rng.uniform(0.25, 0.5))
    fall = np.clip(from_light / max(width, height), 0, 1)[..., None]
    image = colour * 1.36 * (1 - fall) + colour * 0.6 * fall
    sweep = 1 / (1 + np.exp(-(rows - horizon) / (5 * _unit(width, height))))
    return np.asarray(image + sweep[..., None] * 15, np.float32)


def _snow(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image:
    u = _unit(width, height)
    image = np.empty((height, width, 3), np.float32)
    image[:horizon] = _gradient(horizon, width, _tinted(rng, (148, 174, 205)), _tinted(rng, (206, 219, 236)))
    for _ in range(int(rng.integers(3, 7))):
        x, tall = rng.uniform(0, width), rng.uniform(24, 46) * u
        wide = tall * 0.28
        for k in range(3):
            top, spread = horizon - tall + k * tall * 0.28, wide * (0.5 + k * 0.25)
            tier = [(x, top), (x - spread, top + tall * 0.44), (x + spread, top + tall * 0.44)]
            cv2.fillPoly(image, [np.round(np.array(tier)).astype(np.int32)], (58.0, 88.0, 84.0), cv2.LINE_AA)
    depth = height - horizon
    image[horizon:] = _tinted(rng, (240, 244, 250), 4) + _noise(rng, depth, width, (9 * u, 24 * u)) * 6
    for _ in range(int(rng.integers(30, 55))):
        at = int(rng.integers(0, width)), int(rng.integers(0, horizon + round(10 * u)))
        cv2.circle(image, at, max(1, round(rng.uniform(0.5, 1.9) * u)), (250.0, 250.0, 255.0), -1, cv2.LINE_AA)
    return image


_LIGHTS = ((255, 190, 80), (255, 110, 60), (120, 160, 255), (255, 230, 170), (230, 70, 120), (90, 220, 190))


def _city(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image:
    u = _unit(width, height)
    image = _gradient(height, width, _tinted(rng, (14, 16, 36), 4), _tinted(rng, (32, 28, 52), 4))
    glow = np.zeros_like(image)
    for _ in range(int(rng.integers(14, 22))):
        colour = np.array(_LIGHTS[rng.integers(len(_LIGHTS))], np.float32) * rng.uniform(0.4, 0.95)
        at = int(rng.integers(0, width)), int(rng.integers(0, max(8, horizon - round(4 * u))))
        disc = np.zeros_like(image)
        cv2.circle(disc, at, round(rng.uniform(5, 11) * u), tuple(float(v) for v in colour), -1, cv2.LINE_AA)
        glow = np.asarray(np.maximum(glow, disc) + np.minimum(glow, disc) * 0.35, np.float32)
    image[:horizon] += cv2.GaussianBlur(glow, (0, 0), 1.1 * u)[:horizon]
    depth = height - horizon
    mirror = cv2.GaussianBlur(glow[max(0, horizon - depth) : horizon][::-1], (0, 0), 7 * u)
    street = _tinted(rng, (40, 38, 52), 4) + _noise(rng, depth, width, (3 * u, 18 * u)) * 4
    street[: len(mirror)] += mirror * 0.28
    image[horizon:] = street
    return image


PLACES: dict[str, Painter] = {
    "wooden table": _table,
    "marble": _marble,
    "grass": _grass,
    "sand": _sand,
    "brick wall": _brick,
    "blue studio": _studio,
    "snow": _snow,
    "night city": _city,
}


def draw_place(rng: np.random.Generator, place: str, width: int, height: int, horizon: int) -> Image:
    """Draw an empty place.

    Args:
        rng: the only source of randomness.
        place: a key of `PLACES`.
        width: pixels.
        height: pixels.
        horizon: the row where the ground begins, `0 < horizon < height`.

    Returns:
        float32 `[height, width, 3]`, RGB, 0..255.
    """
    image: Image = np.clip(PLACES[place](rng, width, height, horizon), 0, 255).astype(np.float32)
    return image
