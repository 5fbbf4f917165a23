from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.sobel import sobel

OPAQUE = np.full((32, 32), 255, np.uint8)


def plain(*colour: int) -> np.ndarray:
    return np.full((32, 32, 3), colour, np.uint8)


def test_the_map_of_a_plain_product_is_zero() -> None:
    assert sobel(plain(90, 30, 200), OPAQUE).max() == 0.0


def test_a_strong_edge_is_one_and_a_weak_one_in_proportion() -> None:
    strong, weak = plain(0, 0, 0), plain(100, 100, 100)
    strong[:, 16:], weak[:, 16:] = 255, 110
    assert sobel(strong, OPAQUE)[16, 15:17].tolist() == [1.0, 1.0]
    assert abs(float(sobel(weak, OPAQUE)[16, 16]) - 10 / 127.5) < 1e-5


def test_an_edge_between_equally_bright_colours_is_seen() -> None:
    image = plain(150, 0, 0)
    image[16:] = (0, 76, 0)
    assert sobel(image, OPAQUE)[16, 10] > 0.5


def test_colours_under_transparent_pixels_do_not_show() -> None:
    rng = np.random.default_rng(0)
    alpha = np.zeros((32, 32), np.uint8)
    alpha[8:24, 8:24] = 255
    one, other = plain(200, 40, 40), plain(200, 40, 40)
    one[alpha == 0] = rng.integers(0, 256, (int((alpha == 0).sum()), 3))
    assert np.array_equal(sobel(one, alpha), sobel(other, alpha))
    assert sobel(one, alpha)[alpha == 0].max() == 0.0
    assert sobel(one, alpha)[8, 16] > 0.2  # the outline against the neutral ground


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 2**32 - 1))
def test_any_picture_gives_a_map_in_range(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = sobel(
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8), rng.integers(0, 256, (height, width), np.uint8)
    )
    assert edges.dtype == np.float32 and edges.shape == (height, width)
    assert edges.min() >= 0.0 and edges.max() <= 1.0
