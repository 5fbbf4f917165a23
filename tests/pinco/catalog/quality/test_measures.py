from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pinco.catalog.quality.measures import core_identical, extension, psnr, psnr_of_error, shrinkage
from preprocessing.arrays import U8
from preprocessing.canvas import Layer

PICTURES = arrays(np.uint8, (5, 4, 3))


def rectangle(x0: int, x1: int, level: int = 255) -> np.ndarray:
    mask = np.zeros((10, 100), np.uint8)
    mask[:, x0:x1] = level
    return mask


def layer() -> Layer:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    alpha = np.zeros((6, 8), np.uint8)
    alpha[2:5, 2:6], alpha[1, 2:6] = 255, 120
    return Layer(rgb, alpha)


def test_the_core_counts_and_nothing_else() -> None:
    product = layer()
    final = product.rgb.copy()
    final[product.alpha < 255] ^= 255
    assert core_identical(final, product)
    final[3, 3, 2] ^= 1
    assert not core_identical(final, product)


def test_a_product_without_a_core_is_not_identical() -> None:
    product = replace(layer(), alpha=np.full((6, 8), 254, np.uint8))
    assert not core_identical(product.rgb, product)


def test_picture_and_layer_must_have_one_size() -> None:
    with pytest.raises(ValueError, match="layer"):
        core_identical(np.zeros((4, 4, 3), np.uint8), layer())


def test_extension_and_shrinkage_are_shares_of_the_product() -> None:
    source = rectangle(20, 60)
    assert extension(source, rectangle(20, 60)) == 0.0 == shrinkage(source, rectangle(20, 60))
    assert extension(source, rectangle(10, 70)) == pytest.approx(0.5)
    assert shrinkage(source, rectangle(30, 70)) == pytest.approx(0.25)
    assert extension(source, rectangle(30, 70)) == pytest.approx(0.25)


def test_the_segmenter_s_own_error_is_subtracted() -> None:
    source, own = rectangle(20, 60), rectangle(22, 64)
    assert extension(source, rectangle(20, 68), own) == pytest.approx(0.2 - 0.1)
    assert shrinkage(source, rectangle(30, 60), own) == pytest.approx(0.25 - 0.05)


def test_pixels_count_as_product_from_alpha_128_on() -> None:
    assert extension(rectangle(20, 60, 128), rectangle(20, 60)) == 0.0
    with pytest.raises(ValueError, match="empty"):
        extension(rectangle(20, 60, 127), rectangle(20, 60))


@given(st.integers(0, 2**32 - 1))
def test_areas_add_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, found = (rng.integers(0, 2, (9, 9), dtype=np.uint8) * 255 for _ in range(2))
    source[0, 0] = 255
    area = (source > 0).sum()
    grown = extension(source, found) - shrinkage(source, found)
    assert grown * area == pytest.approx(float((found > 0).sum()) - float(area))


def full(value: int, shape: tuple[int, ...] = (8, 8, 3)) -> U8:
    return np.full(shape, value, np.uint8)


@pytest.mark.parametrize(("difference", "decibel"), [(255, 0.0), (1, 48.1308), (16, 24.0484)])
def test_psnr_of_a_known_difference(difference: int, decibel: float) -> None:
    assert psnr(full(difference), full(0)) == pytest.approx(decibel, abs=1e-3)
    assert psnr(full(0), full(difference)) == pytest.approx(decibel, abs=1e-3)  # no wrap-around of uint8


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert psnr(full(7), full(7)) == math.inf == psnr_of_error(0.0)


def test_only_fully_opaque_pixels_count() -> None:
    picture, alpha = full(100), np.zeros((8, 8), np.uint8)
    picture[:4] = 255
    alpha[4:] = 255
    alpha[3] = 254
    assert psnr(picture, full(100), alpha) == math.inf
    alpha[3] = 255
    assert psnr(picture, full(100), alpha) < 20


def test_pictures_of_different_shape_and_masks_without_a_core_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        psnr(full(0), full(0, (8, 9, 3)))
    with pytest.raises(ValueError, match="no opaque pixel"):
        psnr(full(0), full(0), full(254, (8, 8)))


@given(PICTURES, PICTURES)
def test_psnr_is_symmetric_and_infinite_for_equal_pictures_only(one: U8, other: U8) -> None:
    value = psnr(one, other)
    assert value >= 0.0
    assert value == psnr(other, one)
    assert (value == math.inf) == np.array_equal(one, other)


@given(PICTURES, st.integers(1, 60))
def test_a_larger_error_has_a_lower_psnr(picture: U8, step: int) -> None:
    truth = picture // 2
    near, far = truth + np.uint8(step), truth + np.uint8(2 * step)
    assert psnr(far, truth) < psnr(near, truth)


def test_psnr_of_an_error_counts_from_its_peak() -> None:
    assert psnr_of_error(0.01, peak=1.0) == pytest.approx(20.0)
    assert psnr_of_error(1.0) == pytest.approx(48.1308, abs=1e-4)
