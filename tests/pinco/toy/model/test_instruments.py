from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pinco.toy.drawing.places import PLACES
from pinco.toy.model.instruments import BLANK, PlaceClassifier, blanked


@pytest.fixture
def classifier() -> PlaceClassifier:
    torch.manual_seed(0)
    return PlaceClassifier(tuple(PLACES), channels=(8, 8, 8, 8)).eval()


def _pictures(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (96, 160), (160, 96), (16, 48)])
def test_shapes(classifier: PlaceClassifier, height: int, width: int) -> None:
    assert classifier(torch.zeros(2, 3, height, width)).shape == (2, 8)
    places = classifier.places_of(_pictures(2, height, width), np.zeros((2, height, width), bool))
    assert places.shape == (2,)
    assert set(places) <= set(range(8))


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


def test_a_saved_and_loaded_classifier_answers_alike(classifier: PlaceClassifier, tmp_path: Path) -> None:
    classifier.save_pretrained(tmp_path)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]
    loaded = PlaceClassifier.from_pretrained(tmp_path).eval()
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), loaded(x), rtol=1e-5, atol=1e-5)
