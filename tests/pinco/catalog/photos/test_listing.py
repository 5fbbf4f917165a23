from __future__ import annotations

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinco.catalog.photos import listing
from pinco.catalog.photos.listing import read_catalog
from pinco.catalog.sheet.problems import SheetError
from pinco.catalog.store.access import StoreAccess, open_store
from pinco.catalog.store.address import absolute, join


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_a_csv_catalog(tmp_path: Path) -> None:
    path = tmp_path / "catalog.csv"
    path.write_text("SKU;Image;Product name;colour\n007;photos/7.png;Mug;red\n008;s3://b/8.png;;\n")
    catalog = read_catalog(str(path))
    (mug,), (other,) = catalog.photos["007"], catalog.photos["008"]
    assert (mug.uri, mug.variables) == (str(tmp_path / "photos/7.png"), {"product_name": "Mug", "colour": "red"})
    assert (other.uri, other.variables) == ("s3://b/8.png", {})
    assert catalog.folder == str(tmp_path)


def test_a_parquet_catalog(tmp_path: Path) -> None:
    table = pa.table({"sku": ["007", "008"], "image": ["7.png", "8.png"], "price": [9.5, float("nan")], "n": [1, None]})
    (tmp_path / "c.parquet").write_bytes(_parquet(table))
    catalog = read_catalog(str(tmp_path / "c.parquet"))
    assert catalog.photos["007"][0].variables == {"price": "9.5", "n": "1"}
    assert catalog.photos["008"][0].variables == {}
    assert catalog.warnings == ()


def test_skus_that_are_numbers_are_warned_about(tmp_path: Path) -> None:
    (tmp_path / "c.parquet").write_bytes(_parquet(pa.table({"sku": [7], "image": ["7.png"]})))
    catalog = read_catalog(str(tmp_path / "c.parquet"))
    assert list(catalog.photos) == ["7"]
    assert "leading zeros are lost" in catalog.warnings[0].message


def test_a_folder_of_photos(tmp_path: Path) -> None:
    for name in ("007.jpg", "mug.PNG", "deep/er/lamp.webp", "notes.txt", ".hidden.png", "007.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    catalog = read_catalog(str(tmp_path))
    assert sorted(catalog.photos) == ["007", "lamp", "mug"]
    assert [photo.uri for photo in catalog.photos["007"]] == [str(tmp_path / "007.jpg"), str(tmp_path / "007.png")]
    assert catalog.photos["lamp"][0].info is not None
    assert catalog.folder == str(tmp_path)


def test_an_s3_prefix_of_photos(bucket: str, s3_endpoint: str) -> None:
    store = open_store(f"s3://{bucket}/photos", StoreAccess(s3_endpoint))
    store.put_if_absent("new/007.jpg", b"x")
    catalog = read_catalog(f"s3://{bucket}/photos/", access=StoreAccess(s3_endpoint))
    assert [photo.uri for photo in catalog.photos["007"]] == [f"s3://{bucket}/photos/new/007.jpg"]


def test_a_csv_on_s3_names_photos_beside_it(bucket: str, s3_endpoint: str) -> None:
    open_store(f"s3://{bucket}", StoreAccess(s3_endpoint)).put_if_absent("shop/c.csv", b"sku,image\n1,p/1.png\n")
    catalog = read_catalog(f"s3://{bucket}/shop/c.csv", access=StoreAccess(s3_endpoint))
    assert catalog.photos["1"][0].uri == f"s3://{bucket}/shop/p/1.png"


def test_a_product_twice_with_one_photo_is_one(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("sku,image\n1,a.png\n1,./a.png\n2,a.png\n2,b.png\n")
    catalog = read_catalog(str(tmp_path / "c.csv"))
    assert {sku: len(photos) for sku, photos in catalog.photos.items()} == {"1": 1, "2": 2}


def test_a_product_without_a_photo_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("sku,image,colour\n1,a.png,\n2,,red\n")
    catalog = read_catalog(str(tmp_path / "c.csv"))
    assert list(catalog.photos) == ["1"]
    assert [(warning.row, warning.value) for warning in catalog.warnings] == [(3, "2")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"product,image\n1,a\n", "column sku is missing"),
        ("c.csv", b"sku,photo\n1,a\n", "column image is missing"),
        ("c.csv", b"sku,image\n,a.png\n", "row 2, column sku: the sku is missing"),
        ("c.csv", b"sku,image\n1,gs://b/a.png\n", "row 2, column image: .*not gs://"),
        ("c.csv", b"sku,image\n", "holds no photo"),
        ("c.parquet", b"nonsense", "not a Parquet file"),
        ("c.csv", b"sku,image\n1,file://[\n", "row 2, column image: .*not an address of a file"),
        ("c.csv", b"sku,image,SKU\n1,a.png,2\n", "occurs twice"),
    ],
)
def test_catalogs_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SheetError, match=message):
        read_catalog(str(tmp_path / name))


def test_catalogs_that_are_not_there(tmp_path: Path, s3_endpoint: str) -> None:
    with pytest.raises(SheetError, match=r"no such folder or file.*Name a \.csv"):
        read_catalog(str(tmp_path / "none"))
    with pytest.raises(SheetError, match="no such file"):
        read_catalog(str(tmp_path / "none.csv"))
    with pytest.raises(SheetError, match="no bucket 'no-bucket'"):
        read_catalog("s3://no-bucket/photos", access=StoreAccess(s3_endpoint))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SheetError, match="holds no photo"):
        read_catalog(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("image", "uri"),
    [
        ("a.png", "/shop/a.png"),
        ("./p/a.png", "/shop/p/a.png"),
        ("../a.png", "/a.png"),
        (r"p\a.png", "/shop/p/a.png"),
        ("/abs/a.png", "/abs/a.png"),
        ("file:///abs/a%20b.png", "/abs/a b.png"),
        ("s3://b/k.png", "s3://b/k.png"),
    ],
)
def test_addresses_of_images(image: str, uri: str) -> None:
    assert join("/shop", image) == uri


def test_addresses_on_s3_and_relative_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert join("s3://b/shop", r".\p\a.png") == "s3://b/shop/p/a.png"
    assert absolute("s3://b/x") == "s3://b/x"
    assert absolute("x/../y") == str(tmp_path / "y")


def test_a_name_that_is_not_utf_8_is_left_out_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(b"x")
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    catalog = read_catalog(str(tmp_path))
    assert list(catalog.photos) == ["good"]
    assert "not valid UTF-8" in catalog.warnings[0].message


def test_a_catalog_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.csv").write_text("sku,image\n1,a.png\n")
    monkeypatch.setattr(listing, "MAX_TABLE", 10)
    with pytest.raises(SheetError, match="at most 0 MiB are read"):
        read_catalog(str(tmp_path / "c.csv"))


def test_variables_with_composed_and_decomposed_accents_are_one_text(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("sku,image,place\n1,a.png,Cafe\u0301\n2,a.png,Caf\u00e9\n", encoding="utf-8")
    photos = read_catalog(str(tmp_path / "c.csv")).photos
    assert photos["1"][0].variables == photos["2"][0].variables


def test_a_folder_named_like_a_photo_is_searched(tmp_path: Path) -> None:
    (tmp_path / "album.png").mkdir()
    (tmp_path / "album.png" / "1.png").write_bytes(b"x")
    assert list(read_catalog(str(tmp_path)).photos) == ["1"]
