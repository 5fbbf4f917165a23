from __future__ import annotations

import numpy as np

from preprocessing.arrays import NEUTRAL
from preprocessing.blend import blend, over_neutral

LEVELS = np.arange(256, dtype=np.uint8)
# Every colour with every alpha: [256, 256, 3] and [256, 256].
COLOURS = np.repeat(np.broadcast_to(LEVELS[:, None, None], (256, 256, 1)), 3, axis=2)
ALPHAS = np.broadcast_to(LEVELS, (256, 256))


def test_every_blend_with_grey_is_the_mean_rounded_to_the_nearest_level() -> None:
    exact = (COLOURS * (ALPHAS / 255.0)[..., None] + NEUTRAL * (1 - ALPHAS / 255.0)[..., None]).round()
    result = over_neutral(COLOURS, ALPHAS)
    assert result.dtype == np.uint8
    assert np.array_equal(result, exact)


def test_opaque_and_transparent_pixels_are_exact_on_any_background() -> None:
    rng = np.random.default_rng(1)
    front, ground = (rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(2))
    assert np.array_equal(blend(front, np.full((8, 8), 255, np.uint8), ground), front)
    assert np.array_equal(blend(front, np.zeros((8, 8), np.uint8), ground), ground)


def test_lists_of_pixels_and_stacks_of_pictures_blend_alike() -> None:
    rng = np.random.default_rng(2)
    front = rng.integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (2, 3, 4), dtype=np.uint8)
    assert np.array_equal(over_neutral(front, alpha).reshape(-1, 3), over_neutral(front.reshape(-1, 3), alpha.ravel()))
