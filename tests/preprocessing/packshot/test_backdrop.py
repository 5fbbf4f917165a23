from __future__ import annotations

import numpy as np
import pytest
from skimage import data as photographs

from preprocessing.packshot.backdrop import estimate_backdrop


def gradient(height: int = 120, width: int = 160) -> np.ndarray:
    yy, xx = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([230 - 30 * yy, 232 - 30 * yy - 8 * xx, 235 - 30 * yy], axis=-1)


def test_a_gradient_is_followed_across_the_photo() -> None:
    found = estimate_backdrop(gradient().astype(np.uint8))
    assert found.share > 0.99 and found.distance.max() < 1.5 and found.noise < 1.0


def test_a_product_is_far_from_the_backdrop_and_a_shadow_is_only_darker() -> None:
    photo = gradient()
    photo[40:60, 40:60] = (180, 40, 40)
    photo[70:80, 40:60] -= 25
    found = estimate_backdrop(photo.astype(np.uint8))
    assert found.distance[45:55, 45:55].min() > 40
    assert found.chroma[72:78, 45:55].max() < 4 and found.darker[72:78, 45:55].min() > 5
    assert found.distance[100:110, 100:150].max() < 2


@pytest.mark.parametrize("side", ["bottom", "left"])
def test_a_product_that_touches_the_border_does_not_change_the_fit(side: str) -> None:
    photo = gradient()
    where = np.s_[60:, 50:110] if side == "bottom" else np.s_[30:90, :60]
    photo[where] = (30, 60, 160)
    found = estimate_backdrop(photo.astype(np.uint8))
    product = np.zeros(photo.shape[:2], bool)
    product[where] = True
    assert found.distance[~product].max() < 2 and found.distance[product].min() > 30
    assert 0.7 < found.share < 0.95


def test_a_room_has_no_backdrop() -> None:
    assert estimate_backdrop(photographs.coffee()).share < 0.5


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 7)])
def test_tiny_photos(shape: tuple[int, int]) -> None:
    found = estimate_backdrop(np.full((*shape, 3), 200, np.uint8))
    assert found.distance.shape == shape and np.isfinite(found.distance).all()
