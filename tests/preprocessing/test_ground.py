from __future__ import annotations

import numpy as np
import pytest

from preprocessing.arrays import NEUTRAL, U8
from preprocessing.blend import over_neutral
from preprocessing.canvas import Canvas
from preprocessing.ground import on_ground

RED = (200, 30, 40)


@pytest.fixture
def canvas() -> Canvas:
    """A red square with an edge of one half."""
    alpha = np.zeros((64, 64), np.uint8)
    alpha[20:44, 20:44] = 128
    alpha[21:43, 21:43] = 255
    rgb = np.full((64, 64, 3), RED, np.uint8)
    return Canvas(over_neutral(rgb, alpha), alpha, alpha, alpha)


def _scene(ground: tuple[int, int, int], halo: int, reach: int) -> U8:
    """An even ground with a grey halo around the square's place."""
    scene = np.full((64, 64, 3), ground, np.uint8)
    scene[20 - reach : 44 + reach, 20 - reach : 44 + reach] = halo
    return scene


def test_the_product_is_its_own_and_the_ground_the_scenes(canvas: Canvas) -> None:
    scene = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    made = on_ground(canvas, scene, 4)
    assert np.array_equal(made[canvas.alpha == 255], canvas.image[canvas.alpha == 255])
    far = np.ones((64, 64), bool)
    far[15:49, 15:49] = False
    assert np.array_equal(made[far], scene[far])


def test_what_is_near_the_product_is_continued_from_further_away(canvas: Canvas) -> None:
    """A halo within the reach leaves no trace; one that is wider does."""
    ground = (40, 160, 90)
    near = (canvas.alpha == 0) & (on_ground(canvas, _scene(ground, 0, 0), 4) >= 0).all(axis=2)
    assert np.abs(on_ground(canvas, _scene(ground, NEUTRAL, 4), 6)[near].astype(int) - ground).max() <= 2
    assert np.abs(on_ground(canvas, _scene(ground, NEUTRAL, 4), 0)[near].astype(int) - ground).max() > 50


def test_a_soft_edge_is_mixed_with_the_ground_and_not_with_grey(canvas: Canvas) -> None:
    ground = np.array((20, 220, 60))
    made = on_ground(canvas, _scene((20, 220, 60), NEUTRAL, 0), 3)
    edge = (canvas.alpha > 0) & (canvas.alpha < 255)
    wanted = (np.array(RED) * 128 + ground * 127) / 255
    assert np.abs(made[edge] - wanted).max() <= 2


def test_a_product_without_any_ground_stays_as_it_is() -> None:
    whole = np.full((16, 16), 255, np.uint8)
    image = np.full((16, 16, 3), 77, np.uint8)
    assert np.array_equal(on_ground(Canvas(image, whole, whole, whole), image // 2, 8), image)
