from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pinco.catalog.store.access import open_store
from pinco.catalog.store.base import StoreError
from pinco.generation import cutouts
from pinco.generation.cutouts import CutoutCache, cutout_key
from preprocessing.cutout import CutoutRecipe, cutout_to_bytes, make_cutout
from preprocessing.errors import EmptyPhotoError


@pytest.fixture
def sha(photo: Path) -> str:
    return hashlib.sha256(photo.read_bytes()).hexdigest()


def test_a_photo_is_cut_out_once(photo: Path, sha: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path / "store"))
    first = CutoutCache(store, CutoutRecipe()).get_or_make(photo.read_bytes(), sha)
    monkeypatch.setattr(cutouts, "make_cutout", None)  # may not be called again
    again = CutoutCache(store, CutoutRecipe()).get_or_make(photo.read_bytes(), sha)
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.alpha, again.alpha)


def test_another_recipe_is_another_cutout(sha: str) -> None:
    assert cutout_key(sha, CutoutRecipe()) != cutout_key(sha, CutoutRecipe(soft_edge=5.0))


def test_a_damaged_entry_is_made_again(photo: Path, sha: str, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put_if_absent(cutout_key(sha, CutoutRecipe()), b"damaged")
    assert CutoutCache(store, CutoutRecipe()).get_or_make(photo.read_bytes(), sha).alpha.max() == 255


def test_what_cannot_be_cut_out_is_not_kept(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(EmptyPhotoError):
        CutoutCache(store, CutoutRecipe()).get_or_make(b"", hashlib.sha256(b"").hexdigest())
    assert list(store.list()) == []


def test_without_a_store_the_most_recently_used_are_kept(photo: Path) -> None:
    cache = CutoutCache(None, CutoutRecipe(), keep=2)
    first = cache.get_or_make(photo.read_bytes(), "a")
    cache.get_or_make(photo.read_bytes(), "b")
    assert cache.get_or_make(b"not read", "a") is first
    cache.get_or_make(photo.read_bytes(), "c")
    assert cache.get_or_make(b"not read", "a") is first
    with pytest.raises(EmptyPhotoError):  # the one that was not used for longest
        cache.get_or_make(b"", "b")


def _entry(tmp_path: Path, sha: str) -> Path:
    return tmp_path / "store" / cutout_key(sha, CutoutRecipe())


@pytest.mark.parametrize("damage", [b"", b"damaged", b"pinco-cutout-1\n{}\n", b"pinco-cutout-2\n" + bytes(99)])
def test_a_damaged_entry_is_replaced_by_a_good_one(
    damage: bytes, photo: Path, sha: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put_if_absent(cutout_key(sha, CutoutRecipe()), damage)
    first = CutoutCache(store, CutoutRecipe()).get_or_make(photo.read_bytes(), sha)
    monkeypatch.setattr(cutouts, "make_cutout", None)  # may not be called again
    again = CutoutCache(store, CutoutRecipe()).get_or_make(photo.read_bytes(), sha)
    np.testing.assert_array_equal(first.alpha, again.alpha)


def test_an_entry_with_one_flipped_bit_in_its_pixels_is_made_again(photo: Path, sha: str, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    first = CutoutCache(store, CutoutRecipe()).get_or_make(photo.read_bytes(), sha)
    path = _entry(tmp_path, sha)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    again = CutoutCache(store, CutoutRecipe()).get_or_make(photo.read_bytes(), sha)
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.depth, again.depth)
    assert path.read_bytes() == whole


def test_an_entry_of_another_photo_is_made_again(photo: Path, sha: str, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    other = Image.new("RGB", (50, 50), "white")
    other.paste((200, 0, 0), (10, 10, 40, 40))
    buffer = io.BytesIO()
    other.save(buffer, "PNG")
    foreign = cutout_to_bytes(make_cutout(buffer.getvalue()))
    store.put_if_absent(cutout_key(sha, CutoutRecipe()), foreign)
    assert CutoutCache(store, CutoutRecipe()).get_or_make(photo.read_bytes(), sha).size == (120, 120)


def test_an_entry_that_cannot_be_removed_costs_time_only(
    photo: Path, sha: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("read only")

    store = open_store(str(tmp_path / "store"))
    store.put_if_absent(cutout_key(sha, CutoutRecipe()), b"damaged")
    monkeypatch.setattr(store, "delete", refuse)
    assert CutoutCache(store, CutoutRecipe()).get_or_make(photo.read_bytes(), sha).alpha.max() == 255
