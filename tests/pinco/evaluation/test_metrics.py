from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pinco.evaluation.metrics import SubjectMeasures, measure_subject, medians, psnr
from preprocessing.arrays import U8

PICTURES = arrays(np.uint8, (5, 4, 3))


def _full(value: int, shape: tuple[int, ...] = (8, 8, 3)) -> U8:
    return np.full(shape, value, np.uint8)


@pytest.mark.parametrize(("difference", "decibel"), [(255, 0.0), (1, 48.1308), (16, 24.0484)])
def test_psnr_of_a_known_difference(difference: int, decibel: float) -> None:
    assert psnr(_full(difference), _full(0)) == pytest.approx(decibel, abs=1e-3)
    assert psnr(_full(0), _full(difference)) == pytest.approx(decibel, abs=1e-3)  # no wrap-around of uint8


def test_psnr_of_equal_pictures_is_capped() -> None:
    assert psnr(_full(7), _full(7)) == 99.0


def test_only_fully_opaque_pixels_count() -> None:
    picture, alpha = _full(100), np.zeros((8, 8), np.uint8)
    picture[:4] = 255
    alpha[4:] = 255
    alpha[3] = 254
    assert psnr(picture, _full(100), alpha) == 99.0
    alpha[3] = 255
    assert psnr(picture, _full(100), alpha) < 20


def test_pictures_of_different_shape_and_masks_without_a_core_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        psnr(_full(0), _full(0, (8, 9, 3)))
    with pytest.raises(ValueError, match="no opaque pixel"):
        psnr(_full(0), _full(0), _full(254, (8, 8)))


@given(PICTURES, PICTURES)
def test_psnr_is_symmetric_and_bounded(one: U8, other: U8) -> None:
    value = psnr(one, other)
    assert 0.0 <= value <= 99.0
    assert value == psnr(other, one)
    assert (value == 99.0) == np.array_equal(one, other)


@given(PICTURES, st.integers(1, 60))
def test_a_larger_error_never_reads_better(picture: U8, step: int) -> None:
    truth = picture // 2
    near, far = truth + np.uint8(step), truth + np.uint8(2 * step)
    assert psnr(far, truth) < psnr(near, truth)


def _square() -> tuple[U8, U8]:
    alpha = np.zeros((10, 10), np.uint8)
    alpha[2:6, 2:6] = 255
    return _full(50, (10, 10, 3)), alpha


def test_a_kept_subject_measures_clean() -> None:
    source, alpha = _square()
    assert measure_subject(source, alpha, source, alpha) == SubjectMeasures(0.0, 0.0, 99.0)


def test_growth_and_loss_are_told_apart() -> None:
    source, alpha = _square()
    moved = np.roll(alpha, 1, axis=1)
    assert measure_subject(source, moved, source, alpha) == SubjectMeasures(4 / 16, 4 / 16, 99.0)
    grown = np.zeros_like(alpha)
    grown[1:7, 1:7] = 255
    assert measure_subject(source, grown, source, alpha).extension == 20 / 16
    assert measure_subject(source, grown, source, alpha).shrinkage == 0.0


def test_psnr_of_the_subject_ignores_the_background() -> None:
    source, alpha = _square()
    raw = source.copy()
    raw[alpha == 0] = 200
    assert measure_subject(raw, alpha, source, alpha).psnr == 99.0
    raw[alpha == 255] = 51
    assert measure_subject(raw, alpha, source, alpha).psnr == pytest.approx(48.13, abs=0.01)


def test_medians_are_taken_figure_by_figure() -> None:
    measures = [SubjectMeasures(0.1, 0.9, 20.0), SubjectMeasures(0.5, 0.0, 30.0), SubjectMeasures(0.2, 0.3, 10.0)]
    assert medians(measures) == SubjectMeasures(0.2, 0.3, 20.0)
    assert medians(measures[:2]) == SubjectMeasures(pytest.approx(0.3), pytest.approx(0.45), 25.0)
