from __future__ import annotations

import numpy as np
import pytest

from pinco.evaluation.metrics import SubjectMeasures, measure_subject, medians
from preprocessing.arrays import U8


def _full(value: int, shape: tuple[int, ...] = (8, 8, 3)) -> U8:
    return np.full(shape, value, np.uint8)


def _square() -> tuple[U8, U8]:
    alpha = np.zeros((10, 10), np.uint8)
    alpha[2:6, 2:6] = 255
    return _full(50, (10, 10, 3)), alpha


def test_a_kept_subject_has_no_extension_and_no_shrinkage() -> None:
    source, alpha = _square()
    assert measure_subject(source, alpha, source, alpha) == SubjectMeasures(0.0, 0.0, 99.0)


def test_extension_and_shrinkage_are_measured_apart() -> None:
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


def test_medians_are_taken_for_each_figure() -> None:
    measures = [SubjectMeasures(0.1, 0.9, 20.0), SubjectMeasures(0.5, 0.0, 30.0), SubjectMeasures(0.2, 0.3, 10.0)]
    assert medians(measures) == SubjectMeasures(0.2, 0.3, 20.0)
    assert medians(measures[:2]) == SubjectMeasures(pytest.approx(0.3), pytest.approx(0.45), 25.0)
