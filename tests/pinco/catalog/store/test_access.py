from __future__ import annotations

from pathlib import Path

import pytest

from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess, open_store
from pinco.catalog.store.base import ObjectTooLargeError, Store, StoreError


def test_plain_paths_and_file_addresses_open_folders(tmp_path: Path) -> None:
    spaced = tmp_path / "a folder"
    open_store(str(spaced)).put_if_absent("k", b"v")
    assert open_store(spaced.as_uri()).get("k") == b"v"
    assert DEFAULT_ACCESS.read(str(spaced / "k")) == b"v"
    assert DEFAULT_ACCESS.read((spaced / "k").as_uri()) == b"v"
    assert DEFAULT_ACCESS.head(str(spaced / "none")) is None


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"p")
    store, key = DEFAULT_ACCESS.split("photo.png")
    assert (store.uri, key) == (str(tmp_path), "photo.png")
    assert open_store("here").uri == str(tmp_path / "here")


def test_s3_addresses_are_read(bucket: str, s3_endpoint: str) -> None:
    open_store(f"s3://{bucket}", StoreAccess(s3_endpoint)).put_if_absent("photos/1 a.png", b"pixels")
    assert StoreAccess(s3_endpoint).read(f"s3://{bucket}/photos/1 a.png") == b"pixels"
    assert StoreAccess(s3_endpoint).head(f"s3://{bucket}/photos/2.png") is None


def test_a_folder_is_not_an_object(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a directory"):
        DEFAULT_ACCESS.read(str(tmp_path))
    assert DEFAULT_ACCESS.head(str(tmp_path)) is None


def test_region_and_profile_reach_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "aws"
    config.write_text("[profile night]\nregion = eu-central-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    named = StoreAccess("http://127.0.0.1:9", profile="night").open("s3://bucket")
    told = StoreAccess("http://127.0.0.1:9", region="us-west-2").open("s3://bucket")
    assert named._client.meta.region_name == "eu-central-1"  # type: ignore[attr-defined]
    assert told._client.meta.region_name == "us-west-2"  # type: ignore[attr-defined]


def test_an_unknown_profile_is_an_error_of_the_store() -> None:
    with pytest.raises(StoreError, match="nobody"):
        StoreAccess(profile="nobody").open("s3://bucket")


def test_an_object_that_is_too_large_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put_if_absent("big.csv", b"x" * 100)
    access = StoreAccess(getattr(store, "_endpoint", None))
    assert access.read(store.uri_of("big.csv"), max_bytes=100) == b"x" * 100
    monkeypatch.setattr(type(store), "get", None)
    with pytest.raises(ObjectTooLargeError, match=r"big\.csv has 0 MiB; at most 0 MiB"):
        access.read(store.uri_of("big.csv"), max_bytes=99)


@pytest.mark.parametrize("uri", ["file://[", "file:///a%00b", "a\0b", "file:///%ff", "/", "..", "~nobody-of-this/x"])
def test_addresses_of_nothing_are_errors_of_the_store(uri: str) -> None:
    with pytest.raises(StoreError):
        DEFAULT_ACCESS.read(uri)
