from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from pinco.catalog.store.access import open_store
from pinco.generation import cutouts
from pinco.generation.cutouts import CutoutCache, cutout_key
from preprocessing.cutout import CutoutRecipe
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
