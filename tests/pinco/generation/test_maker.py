from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pinco.catalog.ids.identity import Recipe
from pinco.generation.maker import ImageMaker
from pinco.generation.settings import ModelSettings
from preprocessing.canvas import Placement
from preprocessing.errors import EmptyPhotoError


@pytest.fixture(scope="module")
def maker(model_settings: ModelSettings) -> ImageMaker:
    return ImageMaker(model_settings)


def test_the_product_of_the_photo_is_in_the_image(maker: ImageMaker, photo: Path) -> None:
    image = maker.make(photo.read_bytes(), "a ball on grass", size=(120, 120))
    picture = np.asarray(Image.open(io.BytesIO(image.file)))
    source = np.asarray(Image.open(photo))
    core = source[..., 3] == 255
    inner = core & np.roll(core, 4, 0) & np.roll(core, -4, 0) & np.roll(core, 4, 1) & np.roll(core, -4, 1)
    np.testing.assert_array_equal(picture[inner], source[..., :3][inner])
    np.testing.assert_array_equal(picture, image.pixels)
    assert image.core_identical and image.raw.shape == (64, 64, 3)
    assert picture[~core].std() > 0, "the background was generated"


def test_the_same_request_is_the_same_image_and_another_seed_is_not(maker: ImageMaker, photo: Path) -> None:
    first, again = (maker.make(photo.read_bytes(), "a ball", size=(96, 96)) for _ in range(2))
    other = maker.make(photo.read_bytes(), "a ball", size=(96, 96), seed=1)
    assert first.file == again.file and first.generation_id == again.generation_id
    assert other.generation_id != first.generation_id and not np.array_equal(other.raw, first.raw)


def test_the_recipe_says_how_it_was_made(maker: ImageMaker, photo: Path) -> None:
    image = maker.make(
        photo.read_bytes(), "a ball", size=(96, 64), placement=Placement("bottom", 0.5), format="jpeg", quality=80
    )
    recipe = Recipe.from_json(image.recipe)
    assert recipe.generation.generation_id() == image.generation_id
    assert (recipe.generation.steps, recipe.generation.format, recipe.generation.quality) == (2, "jpeg", 80)
    assert recipe.ask.placement == Placement("bottom", 0.5)
    assert Image.open(io.BytesIO(image.file)).size == (96, 64)
    assert json.loads(image.recipe)["ask"]["prompt"] == "a ball"


def test_a_photo_that_cannot_be_read_is_said(maker: ImageMaker) -> None:
    with pytest.raises(EmptyPhotoError):
        maker.make(b"", "a ball")
