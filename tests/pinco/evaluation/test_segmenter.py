from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pinco.evaluation.segmenter import Segmenter, signed
from pinco.generation.builtin import SEGMENTER, assets


@pytest.fixture
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(channels=(8, 8, 8, 8)).eval()


def _pictures(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def test_pictures_become_the_range_that_it_takes() -> None:
    pictures = np.array([[[[0, 255, 51]]]], np.uint8)
    assert signed(pictures)[0, :, 0, 0].tolist() == pytest.approx([-1.0, 1.0, -0.6])


@pytest.mark.parametrize(("height", "width"), [(128, 128), (96, 160), (160, 96), (16, 48)])
def test_shapes(segmenter: Segmenter, height: int, width: int) -> None:
    assert segmenter(torch.zeros(2, 3, height, width)).shape == (2, 1, height, width)
    masks = segmenter.masks(_pictures(2, height, width))
    assert masks.shape == (2, height, width)
    assert masks.dtype == np.bool_


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (333, 101), (128, 128), (600, 900)])
def test_segment_takes_pictures_of_any_size(segmenter: Segmenter, size: tuple[int, int]) -> None:
    mask = segmenter.segment(_pictures(1, *size)[0])
    assert mask.shape == size
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255}


def test_segment_at_working_size_is_the_batch_answer(segmenter: Segmenter) -> None:
    pictures = _pictures(2, 96, 160)
    with torch.no_grad():
        segmenter.out.bias -= segmenter(signed(pictures)).median()
    masks = segmenter.masks(pictures)
    assert 0.2 < masks.mean() < 0.8
    # 96 x 160 is judged at 96 x 160: the working sizes have about 128 x 128 pixels.
    for picture, mask in zip(pictures, masks, strict=True):
        assert (segmenter.segment(picture) == mask * np.uint8(255)).mean() > 0.99


def test_a_saved_and_loaded_segmenter_answers_alike(segmenter: Segmenter, tmp_path: Path) -> None:
    segmenter.save_pretrained(tmp_path)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]
    loaded = Segmenter.from_pretrained(tmp_path).eval()
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(segmenter(x), loaded(x), rtol=1e-5, atol=1e-5)


def test_the_shipped_segmenter_loads() -> None:
    segmenter = Segmenter.from_pretrained(assets() / SEGMENTER).eval()
    grey = np.full((64, 64, 3), 128, np.uint8)
    grey[20:44, 20:44] = (230, 40, 30)
    found = segmenter.segment(grey) > 0
    assert found[24:40, 24:40].mean() > 0.5 > found[:8].mean()
