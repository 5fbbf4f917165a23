from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.arrays import NEUTRAL
from preprocessing.canvas import RESAMPLE, Box, Placement, compose, place, resample, working_size
from preprocessing.cutout import Cutout

KINDS = ["original", "centre", "bottom"]
sides = st.integers(16, 4000)


def block(photo: tuple[int, int], bbox: tuple[int, int, int, int]) -> Cutout:
    alpha = np.zeros((photo[1], photo[0]), np.uint8)
    x0, y0, x1, y1 = bbox
    alpha[y0:y1, x0:x1] = 255
    return Cutout.from_pixels(np.full((*alpha.shape, 3), 200, np.uint8), alpha)


@st.composite
def blocks(draw: st.DrawFn) -> Cutout:
    width, height = draw(st.integers(2, 60)), draw(st.integers(2, 60))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return block((width, height), (x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))))


placements = st.builds(
    Placement,
    kind=st.sampled_from(KINDS),
    scale=st.one_of(st.none(), st.floats(0.01, 1.0)),
    padding=st.floats(0.0, 0.45),
)


@given(blocks(), placements, st.tuples(sides, sides))
def test_the_product_is_inside_the_canvas_with_its_aspect(
    cutout: Cutout, placement: Placement, size: tuple[int, int]
) -> None:
    box = place(cutout, placement, size)
    x0, y0, x1, y1 = cutout.bbox
    slack = 1e-6 * max(size)
    assert box.x >= -slack and box.y >= -slack
    assert box.x + box.width <= size[0] + slack and box.y + box.height <= size[1] + slack
    assert box.width * (y1 - y0) == pytest.approx(box.height * (x1 - x0), rel=1e-9)


@given(blocks())
def test_original_at_the_photo_s_own_size_is_the_identity(cutout: Cutout) -> None:
    x0, y0, x1, y1 = cutout.bbox
    box = place(cutout, Placement("original"), cutout.size)
    assert box == Box(x0, y0, x1 - x0, y1 - y0)
    layer = resample(cutout, box, cutout.size)
    assert np.array_equal(layer.rgb, cutout.rgb) and np.array_equal(layer.alpha, cutout.alpha)


@given(blocks(), placements.filter(lambda p: p.kind != "original" or p.scale is not None), st.tuples(sides, sides))
def test_padding_stays_free_and_scale_is_a_share_of_the_limiting_side(
    cutout: Cutout, placement: Placement, size: tuple[int, int]
) -> None:
    box = place(cutout, placement, size)
    margin, slack = placement.padding * min(size), 1e-6 * max(size)
    assert min(box.x, box.y, size[0] - box.x - box.width, size[1] - box.y - box.height) >= margin - slack
    share = max(box.width / size[0], box.height / size[1])
    limit = 0.7 if placement.scale is None else placement.scale
    fills = [
        abs(side - 2 * margin - length) < slack for side, length in zip(size, (box.width, box.height), strict=True)
    ]
    assert share == pytest.approx(limit, rel=1e-6) or (share < limit and any(fills))


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (Placement("original"), (120.0, 40.0, 40.0, 120.0)),
        (Placement("original", 0.5, 0.0), (106.6667, 0.0, 66.6667, 200.0)),
        (Placement("centre", 0.5, 0.0), (166.6667, 100.0, 66.6667, 200.0)),
        (Placement("bottom", 0.5, 0.1), (166.6667, 160.0, 66.6667, 200.0)),
        (Placement("centre", 1.0, 0.1), (146.6667, 40.0, 106.6667, 320.0)),
    ],
)
def test_where_a_tall_product_of_a_tall_photo_is_placed(placement: Placement, expected: tuple[float, ...]) -> None:
    box = place(block((100, 200), (10, 20, 30, 80)), placement, (400, 400))
    assert (box.x, box.y, box.width, box.height) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "scale", "padding", "message"),
    [
        ("left", None, 0.0, "left"),
        ("centre", 0.0, 0.0, "scale"),
        ("centre", 1.2, 0.0, "scale"),
        ("centre", 1, 0.5, "pad"),
    ],
)
def test_impossible_placements_are_refused(kind: Any, scale: float | None, padding: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Placement(kind, scale, padding)


def test_an_empty_cutout_cannot_be_placed() -> None:
    with pytest.raises(ValueError, match="empty"):
        place(block((10, 10), (0, 0, 0, 0)), Placement(), (10, 10))


def test_the_canvas_shows_the_product_on_neutral_grey_with_its_maps(mug: Any) -> None:
    cutout = Cutout.from_pixels(mug.rgb, np.rint(mug.truth * 255).astype(np.uint8))
    canvas = compose(cutout, Placement("bottom"), (128, 112))
    outside, inside = canvas.alpha == 0, canvas.alpha == 255
    assert canvas.image.shape == (112, 128, 3) and canvas.image.dtype == np.uint8
    assert (canvas.image[outside] == NEUTRAL).all()
    assert not canvas.depth[outside].any() and not canvas.sobel[outside].any()
    assert canvas.depth[inside].min() > 30 and canvas.depth.max() > 220
    assert canvas.sobel.max() > 200  # the print on the label


def test_maps_end_with_the_product(mug: Any) -> None:
    """A depth estimator knows nothing of the mask, and the ground behind the product may be anything."""
    alpha = np.rint(mug.truth * 255).astype(np.uint8)
    cutout = replace(Cutout.from_pixels(mug.rgb, alpha), depth=np.full(alpha.shape, 200, np.uint8))
    canvas = compose(cutout, Placement("centre"), (128, 112))
    outside = canvas.alpha == 0
    assert outside.any() and not canvas.depth[outside].any() and not canvas.sobel[outside].any()
    assert (canvas.depth[canvas.alpha == 255] == 200).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_maps_are_about_the_same_from_a_small_and_a_large_photo(mug: Any, kind: Any) -> None:
    alpha = np.rint(mug.truth * 255).astype(np.uint8)
    canvases = []
    for scale in (1, 5):
        size = (500 * scale, 450 * scale)
        rgb, mask = (cv2.resize(part, size, interpolation=cv2.INTER_CUBIC) for part in (mug.product, alpha))
        canvases.append(compose(Cutout.from_pixels(rgb, mask), Placement(kind), (128, 112)))
    small, large = canvases
    for name in ("image", "alpha", "depth", "sobel"):
        difference = np.abs(getattr(small, name).astype(int) - getattr(large, name))
        assert difference.mean() < 1.5, name


def test_the_working_canvas_is_the_delivered_picture_at_another_size(mug: Any) -> None:
    cutout = Cutout.from_pixels(mug.rgb, np.rint(mug.truth * 255).astype(np.uint8))
    placement, delivery, working = Placement("bottom", 0.6), (1200, 628), (176, 96)
    box = place(cutout, placement, delivery)
    canvas = compose(cutout, placement, working, delivery)
    rows, columns = np.nonzero(canvas.alpha >= 128)
    assert abs(columns.min() / 176 - box.x / 1200) < 1 / 176
    assert abs((rows.max() + 1) / 96 - (box.y + box.height) / 628) < 1 / 96


@given(st.tuples(st.integers(100, 6000), st.integers(100, 6000)).filter(lambda s: 1 / 4 <= s[0] / s[1] <= 4))
def test_working_sizes_are_multiples_of_about_the_right_area_and_aspect(delivery: tuple[int, int]) -> None:
    for pixels in (128 * 128, 1024 * 1024):
        width, height = working_size(delivery, pixels)
        assert width % 16 == 0 and height % 16 == 0
        assert 0.6 < width * height / pixels < 1.6
        assert 0.85 < width / height / (delivery[0] / delivery[1]) < 1.18


@pytest.mark.parametrize(
    ("delivery", "grid"), [((211, 100), (13, 6)), ((470, 305), (11, 7)), ((322, 100), (13, 4)), ((470, 141), (13, 4))]
)
def test_a_nearer_aspect_is_worth_a_column_more_or_less(delivery: tuple[int, int], grid: tuple[int, int]) -> None:
    """The best number of columns is not always one of the two around the ideal one."""
    assert working_size(delivery, 128 * 128) == (grid[0] * 16, grid[1] * 16)


def test_square_and_usual_sizes() -> None:
    assert working_size((1000, 1000), 128 * 128) == (128, 128)
    assert working_size((1080, 1920), 1024 * 1024) == (768, 1360)
    with pytest.raises(ValueError, match="steps of 16"):
        working_size((1000, 1000), 100)


def test_the_name_of_the_resample_is_part_of_ids() -> None:
    assert RESAMPLE == "pillow-bicubic-extended-1"
