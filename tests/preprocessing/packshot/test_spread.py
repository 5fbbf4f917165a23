from __future__ import annotations

import numpy as np
import pytest

from preprocessing.packshot.spread import spread


def test_one_colour_reaches_everywhere() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    image[28:34, 40:46] = (200, 100, 50)
    weight = (image.sum(axis=2) > 0).astype(np.float32)
    assert np.abs(spread(image, weight) - (200, 100, 50)).max() < 1.0


def test_the_nearest_colour_counts_most() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    image[:, :20], image[:, 70:] = (250, 0, 0), (0, 0, 250)
    weight = (image.sum(axis=2) > 0).astype(np.float32)
    result = spread(image, weight)
    assert result[30, 22, 0] > 240 and result[30, 68, 2] > 240
    assert result[30, 10].tolist() == pytest.approx([250, 0, 0], abs=1.0)


def test_colours_without_weight_are_not_used() -> None:
    image = np.full((40, 40, 3), 255, np.uint8)
    image[10:20, 10:20] = 7
    weight = np.zeros((40, 40), np.float32)
    weight[10:20, 10:20] = 1.0
    assert spread(image, weight).max() < 8.0


def test_without_any_weight_the_mean_colour_is_left() -> None:
    image = np.full((8, 8, 3), 90, np.uint8)
    assert np.allclose(spread(image, np.zeros((8, 8), np.float32)), 90.0)
