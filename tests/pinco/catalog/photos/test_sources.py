from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pinco.catalog.photos import sources
from pinco.catalog.photos.sources import SourceIndex
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess, open_store
from pinco.catalog.store.base import ObjectInfo, Store, StoreError

PhotoBytes = Callable[..., bytes]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The photos that were read."""
    seen: list[str] = []

    read = StoreAccess.read

    def spy(access: StoreAccess, uri: str, **options: Any) -> bytes:
        seen.append(uri)
        return read(access, uri, **options)

    monkeypatch.setattr(StoreAccess, "read", spy)
    return seen


def _infos(*paths: Path) -> dict[str, ObjectInfo]:
    found = {str(path): DEFAULT_ACCESS.head(str(path)) for path in paths}
    return {uri: info for uri, info in found.items() if info is not None}


@pytest.fixture
def photo(tmp_path: Path, photo_bytes: PhotoBytes) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(photo_bytes((60, 40)))
    return path


def test_a_photo_is_hashed_and_measured(store: Store, photo: Path) -> None:
    found, unreadable = SourceIndex(store).resolve(_infos(photo))
    source = found[str(photo)]
    assert source.sha256 == hashlib.sha256(photo.read_bytes()).hexdigest()
    assert (source.pixels, source.size, unreadable) == ((60, 40), photo.stat().st_size, {})


def test_a_photo_is_read_only_once(store: Store, photo: Path, reads: list[str]) -> None:
    index = SourceIndex(store)
    first = index.resolve(_infos(photo))
    index.save()
    assert index.resolve(_infos(photo)) == first
    assert SourceIndex(store).resolve(_infos(photo)) == first
    assert reads == [str(photo)]


def test_a_changed_photo_is_read_again(folder_store: Store, photo: Path, reads: list[str]) -> None:
    index = SourceIndex(folder_store)
    before = index.resolve(_infos(photo))[0][str(photo)]
    index.save()
    photo.write_bytes(photo.read_bytes() + b"x")
    after = SourceIndex(folder_store).resolve(_infos(photo))[0][str(photo)]
    assert before.sha256 != after.sha256
    os.utime(photo, ns=(1, 1))
    SourceIndex(folder_store).resolve(_infos(photo))
    assert len(reads) == 3


@pytest.mark.parametrize("content", [b"", b"not a photo", b"\x89PNG\r\n\x1a\n"])
def test_broken_photos_have_a_hash_and_no_size(folder_store: Store, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    index = SourceIndex(folder_store)
    source = index.resolve(_infos(path))[0][str(path)]
    assert (source.sha256, source.pixels) == (hashlib.sha256(content).hexdigest(), None)
    index.save()
    assert SourceIndex(folder_store).resolve(_infos(path))[0][str(path)] == source


def test_photos_that_cannot_be_read_are_reported_with_the_reason(
    folder_store: Store, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos = _infos(photo)
    photo.unlink()
    assert "was deleted" in SourceIndex(folder_store).resolve(infos)[1][str(photo)]

    def deny(access: StoreAccess, uri: str) -> bytes:
        raise StoreError("permission denied")

    monkeypatch.setattr(StoreAccess, "read", deny)
    assert SourceIndex(folder_store).resolve(infos) == ({}, {str(photo): "permission denied"})


def test_two_planners_at_once_keep_what_both_found(store: Store, tmp_path: Path, reads: list[str]) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    indices = [SourceIndex(store), SourceIndex(store)]
    for index, path in zip(indices, paths, strict=True):
        path.write_bytes(path.name.encode())
        index.resolve(_infos(path))
    for index in indices:
        index.save()
    SourceIndex(store).resolve(_infos(*paths))
    assert len(reads) == 2


def test_a_save_that_always_conflicts_is_given_up_without_an_error(
    folder_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    index = SourceIndex(folder_store)
    index.resolve(_infos(path))
    tries: list[str] = []
    monkeypatch.setattr(folder_store, "put_if_absent", lambda key, data: bool(tries.append(key)))
    monkeypatch.setattr(SourceIndex._save_snapshot.retry, "sleep", lambda seconds: None)  # type: ignore[attr-defined]
    index.save()
    assert len(tries) == 50


def test_old_snapshots_are_removed(folder_store: Store, tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"x")
        index = SourceIndex(folder_store)
        index.resolve(_infos(path))
        index.save()
    assert [info.key for info in folder_store.list("_sources/")] == [
        "_sources/000000000004.parquet",
        "_sources/000000000005.parquet",
    ]


def test_nothing_new_writes_nothing(folder_store: Store) -> None:
    SourceIndex(folder_store).save()
    assert list(folder_store.list()) == []


def test_a_damaged_snapshot_costs_time_only(folder_store: Store, photo: Path, reads: list[str]) -> None:
    folder_store.put_if_absent("_sources/000000000007.parquet", b"garbage")
    index = SourceIndex(folder_store)
    index.resolve(_infos(photo))
    index.save()
    SourceIndex(folder_store).resolve(_infos(photo))
    assert len(reads) == 1


def test_the_snapshot_before_a_damaged_one_is_used(folder_store: Store, photo: Path, reads: list[str]) -> None:
    index = SourceIndex(folder_store)
    index.resolve(_infos(photo))
    index.save()
    folder_store.put_if_absent("_sources/000000000002.parquet", b"garbage")
    again = SourceIndex(folder_store)
    again.resolve(_infos(photo))
    assert len(reads) == 1
    again.resolve(_infos(_another(photo)))
    again.save()
    assert folder_store.head("_sources/000000000003.parquet") is not None


def _another(photo: Path) -> Path:
    path = photo.with_name("another.png")
    path.write_bytes(photo.read_bytes())
    return path


STRAY = ["README", "README.md", "x.parquet", "1.parquet", "00000000000x.parquet", "deep/000000000009.parquet"]


def test_files_that_are_no_snapshots_are_ignored_and_kept(folder_store: Store, photo: Path, reads: list[str]) -> None:
    for name in STRAY:
        folder_store.put_if_absent(f"_sources/{name}", b"mine")
    for _ in range(4):
        index = SourceIndex(folder_store)
        index.resolve(_infos(photo))
        index._new += 1
        index.save()
    assert len(reads) == 1
    kept = {info.key.removeprefix("_sources/") for info in folder_store.list("_sources/")}
    assert kept == {*STRAY, "000000000003.parquet", "000000000004.parquet"}


def test_a_flipped_bit_in_a_snapshot_is_noticed(folder_store: Store, photo: Path) -> None:
    index = SourceIndex(folder_store)
    right = index.resolve(_infos(photo))[0][str(photo)]
    index.save()
    path = Path(folder_store.uri_of("_sources/000000000001.parquet"))
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert SourceIndex(folder_store)._known.get(str(photo), right).sha256 == right.sha256


@pytest.mark.parametrize(
    "wrong", [{"sha256": "abc"}, {"sha256": "AB" * 32}, {"width": None}, {"width": -1}, {"width": 0, "height": 0}]
)
def test_entries_that_cannot_be_are_left_out(folder_store: Store, photo: Path, wrong: dict[str, Any]) -> None:
    index = SourceIndex(folder_store)
    source = index.resolve(_infos(photo))[0][str(photo)]
    index._known[str(photo)] = replace(source, **wrong)
    index.save()
    assert SourceIndex(folder_store)._known == {}


def test_a_photo_replaced_by_one_of_equal_size_and_time_is_noticed(
    folder_store: Store, photo: Path, photo_bytes: PhotoBytes
) -> None:
    red, blue = photo_bytes(colour="red", kind="BMP"), photo_bytes(colour="blue", kind="BMP")
    assert len(red) == len(blue)
    photo.write_bytes(red)
    os.utime(photo, ns=(1, 1))
    index = SourceIndex(folder_store)
    assert index.resolve(_infos(photo))[0][str(photo)].sha256 == hashlib.sha256(red).hexdigest()
    time.sleep(0.02)  # file systems count in ticks of a few milliseconds
    photo.write_bytes(blue)
    os.utime(photo, ns=(1, 1))
    assert index.resolve(_infos(photo))[0][str(photo)].sha256 == hashlib.sha256(blue).hexdigest()


def test_entries_of_the_former_key_are_hashed_once_more(folder_store: Store, photo: Path, reads: list[str]) -> None:
    index = SourceIndex(folder_store)
    source = index.resolve(_infos(photo))[0][str(photo)]
    index._known[str(photo)] = replace(source, etag=source.etag.rpartition("-")[0])
    index.save()
    for _ in range(3):
        index = SourceIndex(folder_store)
        assert index.resolve(_infos(photo))[0][str(photo)] == source
        index.save()
    assert len(reads) == 2


def test_a_file_too_large_for_a_photo_is_not_read(
    folder_store: Store, photo: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_PHOTO", 10)
    found, unreadable = SourceIndex(folder_store).resolve(_infos(photo))
    assert (found, reads) == ({}, [])
    assert "at most 0 MiB are read" in unreadable[str(photo)]


def test_damaged_exif_does_not_end_the_planning(folder_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "BAD.jpg"
    Image.new("RGB", (60, 40)).save(path, exif=b"Exif\0\0garbage")
    assert SourceIndex(folder_store).resolve(_infos(path))[0][str(path)].pixels == (60, 40)


def test_photos_on_s3_are_keyed_by_their_etag(
    bucket: str, s3_endpoint: str, folder_store: Store, photo_bytes: PhotoBytes, reads: list[str]
) -> None:
    photos = open_store(f"s3://{bucket}", StoreAccess(s3_endpoint))
    uri = photos.uri_of("a.png")
    for colour in ("red", "blue"):
        photos.delete("a.png")
        photos.put_if_absent("a.png", photo_bytes(colour=colour))
        for _ in range(2):
            index = SourceIndex(folder_store)
            info = StoreAccess(s3_endpoint).head(uri)
            assert info is not None
            assert index.resolve({uri: info}, StoreAccess(s3_endpoint))[0][uri].pixels == (60, 40)
            index.save()
    assert reads == [uri, uri]
