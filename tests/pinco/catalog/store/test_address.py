from __future__ import annotations

from pathlib import Path

import pytest

from pinco.catalog.store.access import open_store
from pinco.catalog.store.address import absolute, join, local_path, uri_scheme
from pinco.catalog.store.base import StoreError


def test_other_schemes_are_refused() -> None:
    with pytest.raises(StoreError, match="not gs://"):
        open_store("gs://bucket/prefix")
    assert uri_scheme("C:/x") == ""
    assert local_path("file:///a%20b") == "/a b"


def test_a_plain_path_becomes_absolute_and_an_s3_address_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("photos") == str(tmp_path / "photos")
    assert absolute((tmp_path / "a b").as_uri()) == str(tmp_path / "a b")
    assert absolute("s3://bucket/photos") == "s3://bucket/photos"


@pytest.mark.parametrize(
    ("folder", "name", "address"),
    [
        ("/shop", "a.png", "/shop/a.png"),
        ("/shop", "./a.png", "/shop/a.png"),
        ("/shop", "sub\\a.png", "/shop/sub/a.png"),
        ("/shop", "/other/a.png", "/other/a.png"),
        ("s3://shop/photos", "sub\\a.png", "s3://shop/photos/sub/a.png"),
        ("s3://shop/photos", "s3://other/a.png", "s3://other/a.png"),
    ],
)
def test_names_are_joined_as_people_write_them(folder: str, name: str, address: str) -> None:
    assert join(folder, name) == address
