from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pinco.catalog.photos.finder import PhotoFinder
from pinco.catalog.photos.listing import Catalog, read_catalog
from pinco.catalog.sheet.problems import Problems, SheetProblem
from pinco.catalog.sheet.reader import SheetRow, parse_sheet
from pinco.catalog.store.access import StoreAccess

Find = Callable[[str], tuple[str | None, list[SheetProblem]]]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A folder of photos, one product with two of them."""
    for name in ("shop/0042.jpg", "shop/mug.png", "shop/mug.jpg", "sheets/own.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return read_catalog(str(tmp_path / "shop"))


@pytest.fixture
def find(catalog: Catalog, tmp_path: Path) -> Find:
    """Where the photo of a row `sku,image` was found, or what was wrong."""

    def search(cells: str) -> tuple[str | None, list[SheetProblem]]:
        path = str(tmp_path / "sheets" / "s.csv")
        row: SheetRow = parse_sheet(f"sku,image,prompt\n{cells},x\n".encode(), path).rows[0]
        finder, problems = PhotoFinder(path, catalog), Problems(path)
        finder.look_up([row])
        found = finder.find(row, problems)
        return (found[0].uri if found else None), problems.errors

    return search


def test_the_photo_of_a_sku(find: Find, tmp_path: Path) -> None:
    assert find("0042,") == (str(tmp_path / "shop/0042.jpg"), [])


def test_images_are_looked_for_beside_the_sheet_and_then_in_the_catalog(find: Find, tmp_path: Path) -> None:
    assert find("new,own.png") == (str(tmp_path / "sheets/own.png"), [])
    assert find("mug,mug.png") == (str(tmp_path / "shop/mug.png"), [])
    (tmp_path / "sheets" / "mug.png").write_bytes(b"nearer")
    assert find("mug,mug.png") == (str(tmp_path / "sheets/mug.png"), [])


@pytest.mark.parametrize(
    ("cells", "column", "message", "suggestion"),
    [
        ("42,", "sku", "no such product", "Did you mean '0042'? A spreadsheet may have removed the zeros"),
        ("0O42,", "sku", "no such product", "Did you mean '0042'?"),
        ("4.2E+01,", "sku", "no such product", "A spreadsheet has turned this SKU into a number"),
        ("mug,", "sku", "2 photos of this product", "Name one of them in the column image: mug.jpg, mug.png"),
        ("mug,mugg.png", "image", "there is no photo at", "Did you mean 'mug.png'?"),
        ("x,onw.png", "image", "there is no photo at", "Did you mean 'own.png'?"),
        ("x,zzz/none.tif", "image", "there is no photo at", "Correct the path"),
        ("x,http://shop/a.png", "image", "not an address of a photo", ""),
    ],
)
def test_errors_of_missing_photos_name_the_way_out(
    find: Find, cells: str, column: str, message: str, suggestion: str
) -> None:
    uri, (error,) = find(cells)
    assert uri is None
    assert (error.row, error.column) == (2, column)
    assert message in error.message
    assert suggestion in str(error.suggestion)


def test_a_photo_that_was_deleted_from_the_catalog_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("sku,image\n1,gone.png\n")
    row = parse_sheet(b"sku,prompt\n1,x\n", str(tmp_path / "s.csv")).rows[0]
    finder, problems = PhotoFinder(str(tmp_path / "s.csv"), read_catalog(str(tmp_path / "c.csv"))), Problems("s.csv")
    finder.look_up([row])
    assert finder.find(row, problems) is None
    assert [(error.column, error.value) for error in problems.errors] == [("sku", "1")]


def test_variables_of_the_catalog_are_used_with_the_rows_own_image(tmp_path: Path) -> None:
    for name in ("1.png", "own.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "c.csv").write_text("sku,image,colour\n1,1.png,red\n")
    row = parse_sheet(b"sku,image,prompt\n1,own.png,x\n", str(tmp_path / "s.csv")).rows[0]
    finder = PhotoFinder(str(tmp_path / "s.csv"), read_catalog(str(tmp_path / "c.csv")))
    finder.look_up([row])
    found = finder.find(row, Problems("s.csv"))
    assert found is not None
    assert (found[0].uri, found[0].variables) == (str(tmp_path / "own.png"), {"colour": "red"})


def test_a_listed_photo_is_not_looked_up_again(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a photo of the listing was looked up")

    monkeypatch.setattr(StoreAccess, "head", refuse)
    row = parse_sheet(b"sku,prompt\n0042,x\n", "s.csv").rows[0]
    finder = PhotoFinder("s.csv", catalog)
    finder.look_up([row])
    assert finder.find(row, Problems("s.csv")) is not None


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_accents_are_found_however_they_are_written(tmp_path: Path, on_disk: Any, written: Any) -> None:
    name = tmp_path / unicodedata.normalize(on_disk, "Café.png")
    name.write_bytes(b"x")
    image = unicodedata.normalize(written, "Café.png")
    (tmp_path / "c.csv").write_text(f"sku,image\n1,{image}\n", encoding="utf-8")
    for sheet in (f"sku,image,prompt\n2,{image},x\n", "sku,prompt\n1,x\n"):
        row = parse_sheet(sheet.encode(), str(tmp_path / "s.csv")).rows[0]
        finder, problems = PhotoFinder(str(tmp_path / "s.csv"), read_catalog(str(tmp_path / "c.csv"))), Problems("s")
        finder.look_up([row])
        found = finder.find(row, problems)
        assert problems.errors == [] and found is not None
        assert found[0].uri == str(name)


def test_a_folder_named_like_a_photo_is_no_photo(find: Find, tmp_path: Path) -> None:
    (tmp_path / "sheets" / "album.png").mkdir()
    uri, (error,) = find("x,album.png")
    assert uri is None and "there is no photo at" in error.message


@pytest.mark.parametrize("image", ["file://[", "file:///a%00b.png", "/", "..", "~nobody-of-this-name/a.png", "s3:///k"])
def test_any_image_cell_is_a_photo_or_an_error(find: Find, image: str) -> None:
    uri, errors = find(f"x,{image}")
    assert uri is None and len(errors) == 1


def test_the_wrong_catalog_is_told_in_time(tmp_path: Path) -> None:
    photos = {f"SKU-{number:06d}": () for number in range(10_000)}
    finder, problems = PhotoFinder("s.csv", Catalog("c", str(tmp_path), photos)), Problems("s.csv")
    text = "sku,prompt\n" + "".join(f"sku_{number:06d}x,p\n" for number in range(300))
    rows = parse_sheet(text.encode(), "s.csv").rows
    began = time.process_time()
    for row in rows:
        finder.find(row, problems)
    assert time.process_time() - began < 20
    assert len(problems.errors) == 300
    hints = [error.suggestion for error in problems.errors]
    assert any(hints[:30]) and not any(hints[30:])
