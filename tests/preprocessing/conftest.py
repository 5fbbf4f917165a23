"""Packshots drawn with their true masks: what the mask is judged against."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from PIL import Image

HEIGHT, WIDTH = 450, 500
_OVERSAMPLE = 4


@dataclass(frozen=True)
class Packshot:
    """rgb: the photo `[H, W, 3]`; truth: the product's coverage `[H, W]` in 0..1; product: its colours `[H, W, 3]`."""

    rgb: np.ndarray
    truth: np.ndarray
    product: np.ndarray

    def iou(self, alpha: np.ndarray) -> float:
        found, true = alpha >= 128, self.truth >= 0.5
        return float((found & true).sum() / (found | true).sum())

    def file(self, fmt: str = "PNG", **options: object) -> bytes:
        out = io.BytesIO()
        Image.fromarray(self.rgb).save(out, fmt, **options)
        return out.getvalue()


def coverage(draw: Callable[[np.ndarray, int], None]) -> np.ndarray:
    big = np.zeros((HEIGHT * _OVERSAMPLE, WIDTH * _OVERSAMPLE), np.uint8)
    draw(big, _OVERSAMPLE)
    return cv2.resize(big, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float64) / 255.0


def backdrop(level: float, vignette: float = 12.0) -> np.ndarray:
    yy, xx = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return np.repeat((level - vignette * (xx * xx + yy * yy) / 2)[..., None], 3, axis=2)


def shaded(ground: np.ndarray, centre: tuple[int, int], axes: tuple[int, int]) -> np.ndarray:
    shadow = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.ellipse(shadow, centre, axes, 0, 0, 360, 1.0, -1)
    return ground - 70.0 * cv2.GaussianBlur(shadow, (0, 0), 12.0)[..., None]


def photographed(ground: np.ndarray, product: np.ndarray, truth: np.ndarray) -> Packshot:
    noise = np.random.default_rng(0).normal(0.0, 1.5, product.shape)
    mixed = ground * (1 - truth[..., None]) + product * truth[..., None] + noise
    return Packshot(np.clip(mixed, 0, 255).astype(np.uint8), truth, np.clip(product, 0, 255).astype(np.uint8))


def in_studio(product: np.ndarray, truth: np.ndarray) -> Packshot:
    """A JPEG on a light backdrop with a gradient and little noise, and a dark narrow contact shadow at row 395."""
    ground = np.array((236.0, 237.0, 239.0)) + 8.0 * np.linspace(0, 1, HEIGHT)[:, None, None] + np.zeros((1, WIDTH, 1))
    columns = np.flatnonzero((truth[380:] > 0.5).any(axis=0))
    shade = np.zeros((HEIGHT, WIDTH), np.float32)
    centre, half = int(columns.mean()), max(8, int(np.ptp(columns)) // 2)
    cv2.ellipse(shade, (centre, 394), (half, 6), 0, 0, 360, 0.22, -1, cv2.LINE_AA)
    ground *= 1.0 - cv2.GaussianBlur(shade, (0, 0), 5.0)[..., None]
    mixed = ground * (1 - truth[..., None]) + product * truth[..., None]
    mixed += np.random.default_rng(1).normal(0.0, 0.6, mixed.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8)).save(out, "JPEG", quality=95)
    photo = np.asarray(Image.open(io.BytesIO(out.getvalue())))
    return Packshot(photo, truth, np.clip(product, 0, 255).astype(np.uint8))


def block(left: int, top: int, right: int) -> np.ndarray:
    return coverage(lambda big, k: cv2.rectangle(big, (left * k, top * k), (right * k - 1, 396 * k - 1), 255, -1))


def mug_coverage() -> np.ndarray:
    def draw(big: np.ndarray, k: int) -> None:
        cv2.ellipse(big, (340 * k, 240 * k), (65 * k, 75 * k), 0, 0, 360, 255, 25 * k)
        cv2.rectangle(big, (130 * k, 110 * k), (330 * k, 395 * k), 255, -1)

    return coverage(draw)


def cylinder(colour: tuple[int, int, int]) -> np.ndarray:
    light = 0.75 + 0.5 * np.exp(-(((np.arange(WIDTH) - 190) / 90.0) ** 2))
    return np.clip(np.zeros((HEIGHT, WIDTH, 3)) + np.array(colour) * light[None, :, None], 0, 255)


@pytest.fixture(scope="session")
def mug() -> Packshot:
    """A blue mug with a printed white label and a handle to look through, on white, with a contact shadow."""
    product = cylinder((40, 90, 180))
    product[200:300, 160:300] = (250, 248, 240)
    cv2.putText(product, "MUG", (180, 265), cv2.FONT_HERSHEY_DUPLEX, 1.3, (30, 30, 30), 3, cv2.LINE_AA)
    return photographed(shaded(backdrop(245), (230, 395), (130, 15)), product, mug_coverage())


@pytest.fixture(scope="session")
def blank_label_mug() -> Packshot:
    """The same, but the label is blank and has the very colour of the backdrop."""
    product = cylinder((40, 90, 180))
    product[200:300, 160:300] = 242
    return photographed(shaded(backdrop(245, vignette=6), (230, 395), (130, 15)), product, mug_coverage())


@pytest.fixture(scope="session")
def pair() -> Packshot:
    """Two red shoes that do not touch."""

    def draw(big: np.ndarray, k: int) -> None:
        cv2.ellipse(big, (140 * k, 260 * k), (90 * k, 55 * k), 10, 0, 360, 255, -1)
        cv2.ellipse(big, (350 * k, 265 * k), (90 * k, 50 * k), -10, 0, 360, 255, -1)

    ground = shaded(shaded(backdrop(245), (140, 318), (85, 9)), (350, 318), (85, 9))
    return photographed(ground, np.full((HEIGHT, WIDTH, 3), (150.0, 40.0, 30.0)), coverage(draw))


@pytest.fixture(scope="session")
def grey_mug() -> Packshot:
    """A grey mug: its colour is that of its own shadow."""
    return photographed(shaded(backdrop(245), (230, 395), (130, 15)), cylinder((150, 150, 150)), mug_coverage())


@pytest.fixture(scope="session")
def white_mug() -> Packshot:
    """White on white: the lit part of the mug has the backdrop's colour, and no edge towards it."""
    return photographed(backdrop(240, vignette=5), cylinder((192, 192, 190)), mug_coverage())


@pytest.fixture(scope="session")
def studio_mug() -> Packshot:
    """An orange mug whose handle is as thick as its hole is narrow."""

    def draw(big: np.ndarray, k: int) -> None:
        cv2.ellipse(big, (330 * k, 250 * k), (75 * k, 88 * k), 0, 0, 360, 255, 40 * k)
        cv2.rectangle(big, (130 * k, 110 * k), (330 * k, 396 * k - 1), 255, -1)

    return in_studio(cylinder((190, 100, 20)), coverage(draw))


@pytest.fixture(scope="session")
def studio_bottle() -> Packshot:
    """A black bottle: as free of hue as its contact shadow."""
    return in_studio(cylinder((42, 42, 48)), block(150, 60, 230))


@pytest.fixture(scope="session")
def studio_box() -> Packshot:
    """An orange box with a blank label, a little darker and warmer than the backdrop."""
    product = np.full((HEIGHT, WIDTH, 3), (225.0, 120.0, 30.0))
    product[220:300, 180:320] = (238, 238, 235)
    return in_studio(product, block(120, 140, 380))


@pytest.fixture(scope="session")
def studio_shoe() -> Packshot:
    """A green shoe on a light sole, which is nearly the backdrop's colour and stands in the contact shadow."""
    product = np.full((HEIGHT, WIDTH, 3), (35.0, 150.0, 60.0))
    product[362:] = (236, 233, 226)
    return in_studio(product, block(120, 250, 380))


@pytest.fixture(scope="session")
def studio_lamp() -> Packshot:
    """A lamp on a light grey stem and foot, both rounded by their shading: they look like a shadow."""

    def draw(big: np.ndarray, k: int) -> None:
        cv2.rectangle(big, (170 * k, 60 * k), (330 * k, 190 * k), 255, -1)
        cv2.rectangle(big, (240 * k, 190 * k), (260 * k, 390 * k), 255, -1)
        cv2.ellipse(big, (250 * k, 385 * k), (70 * k, 11 * k), 0, 0, 360, 255, -1)

    light = 205.0 + 30.0 * np.exp(-(((np.arange(WIDTH) - 250) / 40.0) ** 2))
    product = np.zeros((HEIGHT, WIDTH, 3)) + light[None, :, None]
    product[:190] = (225, 120, 30)
    return in_studio(product, coverage(draw))


@pytest.fixture(scope="session")
def studio_watch() -> Packshot:
    """A blue dial with a white hand, brighter than the backdrop."""
    product = np.full((HEIGHT, WIDTH, 3), (45.0, 80.0, 205.0))
    cv2.line(product, (250, 260), (310, 200), (245.0, 245.0, 245.0), 5, cv2.LINE_AA)
    return in_studio(product, block(150, 160, 350))
