from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pinco.toy.drawing.photos import PHOTO_SIZE, photograph, write_demo_photos
from pinco.toy.drawing.products import COLOURS, KINDS, Product, draw_product
from preprocessing.decode import Photo, decode
from preprocessing.mask import find_mask


def _photo(kind: str, colour: str, seed: int = 0) -> tuple[np.ndarray, Product]:
    rng = np.random.default_rng([seed, 2])
    product = draw_product(rng, 560, kind, colour)
    return photograph(product, rng), product


def _where(product: Product) -> tuple[slice, slice]:
    """The photographer's ground line: nine tenths down, in the middle."""
    tall, wide = product.rgba.shape[:2]
    x, y = (PHOTO_SIZE[0] - wide) // 2, round(PHOTO_SIZE[1] * 0.9) - tall
    return slice(y, y + tall), slice(x, x + wide)


@pytest.mark.parametrize(
    ("kind", "colour"), zip(KINDS, ["red", "blue", "green", "purple", "orange", "black"], strict=True)
)
def test_the_packshot_mask_finds_the_product(kind: str, colour: str) -> None:
    picture, product = _photo(kind, colour)
    truth = np.zeros(picture.shape[:2], bool)
    truth[_where(product)] = product.rgba[..., 3] > 127
    found = find_mask(Photo(picture, None, None, "JPEG")).alpha > 127
    assert (truth & found).sum() / (truth | found).sum() > 0.9


def test_a_photo_shows_the_product_on_a_light_backdrop() -> None:
    picture, product = _photo("mug", "blue")
    assert picture.shape == (PHOTO_SIZE[1], PHOTO_SIZE[0], 3)
    assert picture.dtype == np.uint8
    core = product.rgba[..., 3] == 255
    shown = picture[_where(product)][core].astype(int)
    assert np.abs(shown - product.rgba[core][:, :3]).max() <= 6  # the sensor's noise
    assert picture[:40].min() > 225
    noise = picture[:40].astype(float).std((0, 1))
    assert (noise > 0.3).all()


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    first = write_demo_photos(tmp_path / "one", 2, seed=3)
    second = write_demo_photos(tmp_path / "two", 2, seed=3)
    other = write_demo_photos(tmp_path / "other", 2, seed=4)
    assert [p.name for p in first] == [p.name for p in second]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert [p.read_bytes() for p in first] != [p.read_bytes() for p in other]


def test_more_photos_begin_with_the_same_ones(tmp_path: Path) -> None:
    few, more = write_demo_photos(tmp_path / "few", 1, seed=0), write_demo_photos(tmp_path / "more", 2, seed=0)
    assert [p.read_bytes() for p in few] == [p.read_bytes() for p in more[:1]]


def test_photos_can_be_read_and_are_named_after_what_they_show(tmp_path: Path) -> None:
    paths = write_demo_photos(tmp_path, 8, seed=0)
    assert len({p.name for p in paths}) == 8
    parts = [p.stem.split("-") for p in paths]
    assert [kind for _, kind, _ in parts[:6]] == list(KINDS)
    assert {colour for colour, _, _ in parts} <= set(COLOURS) - {"white"}
    assert [number for _, _, number in parts] == [f"{i:02d}" for i in range(1, 9)]
    photo = decode(paths[0].read_bytes(), max_pixels=10**6)
    assert photo.rgb.shape == (PHOTO_SIZE[1], PHOTO_SIZE[0], 3)
    assert photo.alpha is None
