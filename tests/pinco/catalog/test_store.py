from __future__ import annotations

from pathlib import Path

import pytest

from pinco.catalog.store import (
    ObjectNotFoundError,
    Store,
    StoreError,
    head_uri,
    local_path,
    open_store,
    read_uri,
    split_uri,
    uri_scheme,
)  # fmt: skip


def test_what_is_put_is_there(store: Store) -> None:
    assert store.head("a/b.txt") is None
    assert store.put_if_absent("a/b.txt", b"one", "text/plain")
    info = store.head("a/b.txt")
    assert info is not None
    assert (info.key, info.size) == ("a/b.txt", 3)
    assert info.modified.utcoffset() is not None
    assert store.get("a/b.txt") == b"one"


def test_a_taken_key_keeps_its_content(store: Store) -> None:
    assert store.put_if_absent("key", b"first")
    assert not store.put_if_absent("key", b"second")
    assert store.get("key") == b"first"


def test_a_missing_object_is_said_with_its_address(store: Store) -> None:
    with pytest.raises(ObjectNotFoundError, match="missing/thing"):
        store.get("missing/thing")


def test_listing_goes_by_prefix_in_order(store: Store) -> None:
    for key in ("b/2", "a/1", "b/10", "bc"):
        store.put_if_absent(key, b"x")
    assert [info.key for info in store.list()] == ["a/1", "b/10", "b/2", "bc"]
    assert [info.key for info in store.list("b/")] == ["b/10", "b/2"]
    assert [info.key for info in store.list("b")] == ["b/10", "b/2", "bc"]
    assert list(store.list("nothing/")) == []


def test_listing_and_head_agree(store: Store) -> None:
    store.put_if_absent("x", b"12345")
    assert list(store.list()) == [store.head("x")]


def test_delete_removes_and_does_not_mind_absence(store: Store) -> None:
    store.put_if_absent("x", b"1")
    store.delete("x")
    store.delete("x")
    assert store.head("x") is None
    assert store.put_if_absent("x", b"2")


def test_plain_paths_and_file_addresses_open_folders(tmp_path: Path) -> None:
    spaced = tmp_path / "a folder"
    open_store(str(spaced)).put_if_absent("k", b"v")
    assert open_store(spaced.as_uri()).get("k") == b"v"
    assert read_uri(str(spaced / "k")) == b"v"
    assert read_uri((spaced / "k").as_uri()) == b"v"
    assert head_uri(str(spaced / "none")) is None


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"p")
    store, key = split_uri("photo.png")
    assert (store.uri, key) == (str(tmp_path), "photo.png")
    assert open_store("here").uri == str(tmp_path / "here")


def test_s3_addresses_are_read(bucket: str, s3_endpoint: str) -> None:
    open_store(f"s3://{bucket}", endpoint=s3_endpoint).put_if_absent("photos/1 a.png", b"pixels")
    assert read_uri(f"s3://{bucket}/photos/1 a.png", s3_endpoint) == b"pixels"
    assert head_uri(f"s3://{bucket}/photos/2.png", s3_endpoint) is None


def test_other_schemes_are_refused() -> None:
    with pytest.raises(StoreError, match="not gs://"):
        open_store("gs://bucket/prefix")
    assert uri_scheme("C:/x") == ""
    assert local_path("file:///a%20b") == "/a b"


def test_a_folder_is_no_object(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a directory"):
        read_uri(str(tmp_path))
    assert head_uri(str(tmp_path)) is None
