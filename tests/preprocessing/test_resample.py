from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data as photographs

from preprocessing.cutout import Cutout
from preprocessing.resample import Box, resample

COFFEE: np.ndarray = photographs.coffee()


def disc(colour: tuple[int, int, int] | None = None, side: int = 200, radius: int = 70) -> Cutout:
    """A soft-edged disc, of coffee or of one colour, with its middle in the middle of the photo."""
    yy, xx = np.mgrid[:side, :side] + 0.5 - side / 2
    alpha = np.clip((radius - np.hypot(xx, yy)) * 64 + 128, 0, 255).astype(np.uint8)
    rgb = COFFEE[100 : 100 + side, 200 : 200 + side] if colour is None else np.full((side, side, 3), colour, np.uint8)
    return Cutout.from_pixels(rgb, alpha)


def own_box(cutout: Cutout, scale: float = 1.0, dx: float = 0.0, dy: float = 0.0) -> Box:
    x0, y0, x1, y1 = cutout.bbox
    return Box(x0 * scale + dx, y0 * scale + dy, (x1 - x0) * scale, (y1 - y0) * scale)


def test_scale_one_on_whole_pixels_copies_bytes() -> None:
    cutout = disc()
    layer = resample(cutout, own_box(cutout, dx=13, dy=-20), (260, 190))
    rgb, alpha = np.zeros((190, 260, 3), np.uint8), np.zeros((190, 260), np.uint8)
    alpha[:180, 13:213], rgb[:180, 13:213] = cutout.alpha[20:], cutout.rgb[20:]
    assert np.array_equal(layer.alpha, alpha) and np.array_equal(layer.rgb, rgb)


def test_faint_pixels_far_from_the_box_are_included() -> None:
    cutout = disc()
    alpha = cutout.alpha.copy()
    alpha[4, 4] = 90
    faint = Cutout.from_pixels(COFFEE[100:300, 200:400], alpha)
    assert np.array_equal(resample(faint, own_box(faint), (200, 200)).alpha, alpha)
    assert resample(faint, own_box(faint, 2.0), (400, 400)).alpha[8:10, 8:10].min() > 60


@pytest.mark.parametrize("scale", [0.1, 0.37, 0.999, 1.5, 4.0])
@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255)])
def test_one_colour_stays_that_colour_up_to_its_edge(scale: float, ground: tuple[int, int, int]) -> None:
    cutout = disc((210, 120, 40))
    outside = np.where(cutout.alpha[..., None] > 0, cutout.rgb, np.array(ground, np.uint8)).astype(np.uint8)
    cutout = Cutout(outside, cutout.alpha, cutout.depth, None, "drawn", 1.0, "")
    side = round(200 * scale)
    layer = resample(cutout, own_box(cutout, scale, 0.3, 0.6), (side + 2, side + 2))
    seen = layer.alpha > 0
    assert np.abs(layer.rgb[seen].astype(int) - (210, 120, 40)).max() <= 1
    assert not layer.rgb[~seen].any()
    assert abs(float(layer.alpha.sum() / 255) - np.pi * (70 * scale) ** 2) < 0.02 * np.pi * (70 * scale) ** 2 + 2


@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (0.25, 0.5), (0.7, 0.1)])
def test_the_position_is_right_to_a_fraction_of_a_pixel(dx: float, dy: float) -> None:
    cutout = disc()
    layer = resample(cutout, own_box(cutout, 0.31, 5 + dx, 9 + dy), (90, 90))
    yy, xx = np.mgrid[:90, :90] + 0.5
    weight = layer.alpha / layer.alpha.sum()
    assert abs((xx * weight).sum() - (100 * 0.31 + 5 + dx)) < 0.02
    assert abs((yy * weight).sum() - (100 * 0.31 + 9 + dy)) < 0.02


def test_it_agrees_with_area_averaging() -> None:
    cutout = disc()
    layer = resample(cutout, own_box(cutout, 0.25), (50, 50))
    expected = cv2.resize(COFFEE[100:300, 200:400], (50, 50), interpolation=cv2.INTER_AREA)
    core = layer.alpha == 255
    assert core.sum() > 800
    assert np.abs(layer.rgb[core].astype(int) - expected[core]).mean() < 4.0


def test_a_product_that_the_photo_cuts_off_is_opaque_to_the_canvas_edge() -> None:
    cutout = Cutout.from_pixels(COFFEE, np.full((400, 600), 255, np.uint8))
    layer = resample(cutout, Box(0, 0, 217, 217 / 1.5), (217, 145))
    assert (layer.alpha == 255).all()


def test_the_two_axes_may_be_scaled_apart() -> None:
    cutout = disc()
    layer = resample(cutout, Box(10, 20, 60, 30), (80, 70))
    rows, columns = np.nonzero(layer.alpha >= 128)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (10, 70, 20, 50)


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 60),
    st.integers(1, 60),
    st.floats(0.02, 1.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_any_box_inside_any_canvas(
    height: int, width: int, rows: int, columns: int, share: float, dx: float, dy: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    alpha = rng.integers(0, 256, (height, width), dtype=np.uint8)
    alpha[rng.integers(height), rng.integers(width)] = 255
    cutout = Cutout.from_pixels(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), alpha)
    w, h = columns * share, rows * share
    layer = resample(cutout, Box((columns - w) * dx, (rows - h) * dy, w, h), (columns, rows))
    assert layer.rgb.shape == (rows, columns, 3) and layer.alpha.shape == (rows, columns)
