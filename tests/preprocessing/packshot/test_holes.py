from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from preprocessing.packshot.backdrop import estimate_backdrop
from preprocessing.packshot.holes import Evidence, Reading, find_holes, read

HOLE, LABEL, DOUBT = Reading(True, True), Reading(False, True), Reading(False, False)
MATCH = Evidence(0.1, 0.5, shaded=False, follows=0.95, slope=1.0, grain=1.0, handle=False, straight=False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, HOLE),
        ({"straight": True}, HOLE),  # a picture frame: the gradient goes on behind it
        ({"slope": 0.0}, DOUBT),  # the right level on average, but flat
        ({"slope": None}, DOUBT),  # burnt-out white on burnt-out white
        ({"slope": None, "handle": True}, HOLE),
        ({"slope": None, "handle": True, "straight": True}, DOUBT),  # the screen of a phone
        ({"grain": 5.0}, DOUBT),
        ({"follows": 0.4, "handle": True}, HOLE),  # partly in shadow
        ({"follows": 0.0, "offset": 1.0}, DOUBT),
        ({"follows": 0.0, "offset": 3.0, "slope": 0.0}, LABEL),
        ({"follows": 0.0, "offset": 5.0, "slope": None}, LABEL),
        ({"follows": 0.0, "offset": 5.0, "slope": None, "shaded": True, "handle": True}, DOUBT),
    ],
)
def test_what_evidence_is_taken_for(changes: dict[str, object], expected: Reading) -> None:
    assert read(replace(MATCH, **changes)) == expected


def frame(inside: float | None, ink: bool = False, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A blue block on a gradient with a window at rows 90..129; inside None shows the backdrop (plus a shift)."""
    rows = np.linspace(215, 245, 200)[:, None, None]
    photo = np.broadcast_to(rows, (200, 200, 3)) + np.random.default_rng(0).normal(0, 1.0, (200, 200, 3))
    block = np.zeros((200, 200), bool)
    block[50:170, 50:150] = True
    window = np.zeros_like(block)
    window[90:130, 70:130] = True
    behind = photo[window] + shift
    photo[block] = (40, 80, 180)
    photo[window] = behind if inside is None else inside
    picture = np.ascontiguousarray(np.clip(photo, 0, 255).astype(np.uint8))
    if ink:
        cv2.putText(picture, "AB", (80, 122), cv2.FONT_HERSHEY_DUPLEX, 1.0, (20, 20, 20), 2)
    return picture, window


def judged(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    product = np.zeros(picture.shape[:2], bool)
    product[50:170, 50:150] = True
    return find_holes(product, np.zeros_like(product), estimate_backdrop(picture), likely=6.0)


def test_a_window_that_shows_the_backdrop_s_gradient_and_grain_is_a_hole() -> None:
    picture, window = frame(None)
    holes, doubtful = judged(picture)
    assert (holes & window).sum() > 0.9 * window.sum() and not holes[~window].any() and not doubtful.any()


def test_a_flat_label_of_the_mean_level_is_not_a_hole() -> None:
    holes, doubtful = judged(frame(231.0)[0])
    assert not holes.any() and doubtful.any()


def test_a_label_darker_by_a_constant_is_not_a_hole() -> None:
    assert not judged(frame(None, shift=-8.0)[0])[0].any()


def test_a_region_with_print_is_neither_a_hole_nor_in_doubt() -> None:
    picture, window = frame(None, ink=True)
    holes, doubtful = judged(picture)
    assert not holes.any() and doubtful.sum() < 0.05 * window.sum()  # the counters of the letters


def test_what_is_brighter_than_the_backdrop_is_neither() -> None:
    holes, doubtful = judged(frame(None, shift=9.0)[0])
    assert not holes.any() and not doubtful.any()
