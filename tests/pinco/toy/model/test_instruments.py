from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pinco.toy.drawing.places import PLACES
from pinco.toy.model.instruments import BLANK, PlaceClassifier, Segmenter, blanked


@pytest.fixture
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(channels=(8, 8, 8, 8)).eval()


@pytest.fixture
def classifier() -> PlaceClassifier:
    torch.manual_seed(0)
    return PlaceClassifier(tuple(PLACES), channels=(8, 8, 8, 8)).eval()


def _pictures(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (96, 160), (160, 96), (16, 48)])
def test_shapes(segmenter: Segmenter, classifier: PlaceClassifier, height: int, width: int) -> None:
    x = torch.zeros(2, 3, height, width)
    assert segmenter(x).shape == (2, 1, height, width)
    assert classifier(x).shape == (2, 8)
    pictures = _pictures(2, height, width)
    masks = segmenter.masks(pictures)
    assert masks.shape == (2, height, width)
    assert masks.dtype == np.bool_
    places = classifier.places_of(pictures, masks)
    assert places.shape == (2,)
    assert set(places) <= set(range(8))


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (333, 101), (128, 128), (600, 900)])
def test_segment_takes_pictures_of_any_size(segmenter: Segmenter, size: tuple[int, int]) -> None:
    mask = segmenter.segment(_pictures(1, *size)[0])
    assert mask.shape == size
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255}


def test_segment_at_working_size_is_the_batch_answer(segmenter: Segmenter) -> None:
    pictures = _pictures(2, 96, 160)
    with torch.no_grad():
        segmenter.out.bias -= segmenter(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1).median()
    masks = segmenter.masks(pictures)
    assert 0.2 < masks.mean() < 0.8
    # 96 x 160 is judged at 96 x 160: the working sizes have about 128 x 128 pixels.
    for picture, mask in zip(pictures, masks, strict=True):
        assert (segmenter.segment(picture) == mask * np.uint8(255)).mean() > 0.99


def test_blanking_reaches_five_pixels_past_the_mask_and_no_further() -> None:
    pictures = np.zeros((1, 128, 128, 3), np.uint8)
    masks = np.zeros((1, 128, 128), bool)
    masks[0, 60:70, 60:70] = True
    grey = (blanked(pictures, masks)[0] == BLANK).all(-1)
    assert grey[65, 55:75].all()
    assert not grey[65, 54]
    assert not grey[65, 75]
    assert grey[55, 65]
    assert not grey[54, 65]
    assert not grey[55, 55]  # round, not square
    assert not pictures.any()  # the caller's picture is left alone


def test_the_blanking_margin_grows_with_the_picture() -> None:
    masks = np.zeros((1, 256, 256), bool)
    masks[0, 100:110, 100:110] = True
    grey = (blanked(np.zeros((1, 256, 256, 3), np.uint8), masks)[0] == BLANK).all(-1)
    assert np.nonzero(grey[105])[0].tolist() == list(range(90, 120))


def test_an_empty_mask_blanks_nothing() -> None:
    pictures = _pictures(2, 32, 32)
    assert np.array_equal(blanked(pictures, np.zeros((2, 32, 32), bool)), pictures)


def test_the_classifier_cannot_see_the_product(classifier: PlaceClassifier) -> None:
    pictures = _pictures(4, 64, 64)
    masks = np.zeros((4, 64, 64), bool)
    masks[:, 16:48, 16:48] = True
    others = pictures.copy()
    others[masks] = 255 - others[masks]
    seen: list[torch.Tensor] = []
    handle = classifier.register_forward_hook(lambda module, args, output: seen.append(output))
    classifier.places_of(pictures, masks)
    classifier.places_of(others, masks)
    handle.remove()
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("name", ["segmenter", "classifier"])
def test_saved_and_loaded_instruments_answer_alike(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    model.save_pretrained(tmp_path)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]
    loaded = type(model).from_pretrained(tmp_path).eval()
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(x), loaded(x), rtol=1e-5, atol=1e-5)
