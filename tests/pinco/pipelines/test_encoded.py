from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from pinco.pipelines.encoded import check_size, image_tensor, map_tensor
from preprocessing.canvas import Canvas

MakeCanvas = Callable[..., Canvas]


def test_size_is_width_then_height(make_canvas: MakeCanvas) -> None:
    assert check_size(make_canvas(64, 48), 16) == (64, 48)


@pytest.mark.parametrize(("width", "height"), [(60, 48), (64, 40), (65, 47)])
def test_a_size_off_the_grid_is_refused(make_canvas: MakeCanvas, width: int, height: int) -> None:
    with pytest.raises(ValueError, match=f"{width} x {height} pixels .* multiples of 16"):
        check_size(make_canvas(width, height), 16)


def test_maps_of_another_size_are_refused(make_canvas: MakeCanvas) -> None:
    canvas = replace(make_canvas(64, 48), depth=np.zeros((48, 32), np.uint8))
    with pytest.raises(ValueError, match="differ in size"):
        check_size(canvas, 16)


def test_the_image_becomes_the_vaes_range(make_canvas: MakeCanvas) -> None:
    image = image_tensor(make_canvas())
    assert image.shape == (1, 3, 48, 64) and image.dtype == torch.float32
    assert image[0, :, 10, 20].tolist() == pytest.approx([240 / 127.5 - 1, 60 / 127.5 - 1, 20 / 127.5 - 1])


def test_maps_are_mask_depth_sobel_from_zero_to_one(make_canvas: MakeCanvas) -> None:
    maps = map_tensor(make_canvas())
    assert maps.shape == (1, 3, 48, 64)
    assert maps[0, :, 8, 20].tolist() == pytest.approx([1.0, 200 / 255, 180 / 255])
    assert not maps[0, :, 0, 0].any()
