from __future__ import annotations

import numpy as np

from preprocessing.packshot.morphology import at_border, close, dilate, erode, fill, rim


def square(side: int = 21) -> np.ndarray:
    bits = np.zeros((side, side), bool)
    bits[5:16, 5:16] = True
    return bits


def test_two_steps_shrink_by_four_pixels_and_the_border_is_no_edge() -> None:
    assert erode(square()).sum() == 7 * 7 and erode(square(), 2).sum() == 3 * 3
    assert erode(np.ones((6, 6), bool)).all()


def test_growing_goes_to_the_four_neighbours() -> None:
    dot = np.zeros((5, 5), bool)
    dot[2, 2] = True
    assert dilate(dot).sum() == 5 and not dilate(dot)[1, 1]


def test_the_rim_is_one_pixel_wide() -> None:
    assert rim(square()).sum() == 4 * 10
    assert not rim(np.ones((6, 6), bool)).any()


def test_small_gaps_are_filled_and_large_ones_are_not() -> None:
    bits = square()
    bits[7, 7] = False
    bits[10:14, 10:14] = False
    closed = close(bits)
    assert closed[7, 7] and not closed[11:13, 11:13].any()


def test_only_what_reaches_the_border_by_sides() -> None:
    bits = np.zeros((6, 6), bool)
    bits[0, 0] = bits[1, 1] = bits[3, 3] = bits[5, 4] = True
    assert np.argwhere(at_border(bits)).tolist() == [[0, 0], [5, 4]]
    assert not at_border(np.zeros((4, 4), bool)).any()


def test_gaps_are_filled_except_the_holes() -> None:
    bits, holes = square(), np.zeros((21, 21), bool)
    bits[6:8, 6:10] = bits[10:14, 10:14] = bits[9, 5] = False
    holes[11, 11] = holes[0, 0] = True
    filled = fill(bits, holes)
    assert filled[6:8, 6:10].all() and not filled[10:14, 10:14].any()
    assert not filled[9, 5], "open to the outside"
    assert np.array_equal(filled[:5], bits[:5])
