from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pinco.catalog.delivery.images import put_image
from pinco.catalog.manifest.schema import Row
from pinco.catalog.report import contact_sheet as report
from pinco.catalog.report.contact_sheet import contact_sheet
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]
KEY = "reports/night.html"
PhotoBytes = Callable[..., bytes]


class Page(HTMLParser):
    """What stands on the page: its text, its pictures, and everything that it would load from elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.pictures: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "a":
            self.links.append(str(dict(attrs)["href"]))
        if tag == "img":
            self.pictures.append(str(dict(attrs)["src"]))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def rows(store: Store, tmp_path: Path, make_row: MakeRow, photo_bytes: PhotoBytes) -> list[Row]:
    """Two images of one photo, and two rows that failed over a broken one."""
    good, broken = tmp_path / "mug.png", tmp_path / "broken.png"
    good.write_bytes(photo_bytes())
    broken.write_bytes(b"broken")
    made = []
    for number, status in enumerate(("ok", "review")):
        uri, sha256 = put_image(store, f"gen{number}", photo_bytes(colour="blue"), "png")
        given = {"sku": "MUG", "source_uri": str(good), "image_uri": uri, "image_sha256": sha256}
        reason = "Look at its edge." if status == "review" else None
        prompt = f"prompt {number} <b>&"
        given |= {"core_identical": True, "method": "blend"}
        made.append(make_row(number, status, reason=reason, prompt=prompt, **given))
    bad = {"sku": "BAD", "source_uri": str(broken)}
    return [*made, make_row(2, "failed", **bad), make_row(3, "quarantined", **bad)]


def test_the_page_shows_every_row(store: Store, rows: list[Row], tmp_path: Path) -> None:
    path = contact_sheet(rows, tmp_path / "out" / "sheet.html", store, key=KEY, title="Night <1>")
    page = Page(path)
    assert page.text.count("4 images of 2 products") == 1
    for words in (
        "Night <1>",
        "prompt 0 <b>&",
        "prompt 1 <b>&",
        "Look at its edge.",
        "The photo is empty.",
        "MUG",
        "BAD",
    ):
        assert words in page.text
    for status in ("ok", "review", "failed", "quarantined"):
        assert status in page.text
    assert page.text.count("product untouched") == 2
    assert len(page.pictures) == 3, "one photo and two images"
    assert "no picture in this file" in page.text


def test_the_page_needs_no_other_file(store: Store, rows: list[Row], tmp_path: Path) -> None:
    path = contact_sheet(rows, tmp_path / "sheet.html", store, key=KEY)
    page = Page(path)
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in page.pictures)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"https?://|url\(|@import", path.read_text())


def test_links_lead_from_the_page_to_the_images_wherever_the_store_is(
    folder_store: Store, make_row: MakeRow, tmp_path: Path, photo_bytes: PhotoBytes
) -> None:
    put_image(folder_store, "gen", photo_bytes(), "png")
    image = next(folder_store.list("images/")).key
    row = make_row(0, source_uri=str(tmp_path / "none.png"), image_uri=f"/where/the/store/was/{image}")
    page = contact_sheet([row], Path(folder_store.uri_of(KEY)), folder_store, key=KEY)
    copy = tmp_path / "copy"
    Path(folder_store.uri).rename(copy)
    (link,) = Page(copy / KEY).links
    assert link == f"../{image}"
    assert (copy / KEY).parent.joinpath(link).is_file() and not page.exists()
    assert folder_store.uri not in link


def test_a_source_is_embedded_once_for_all_its_images(
    folder_store: Store, make_row: MakeRow, tmp_path: Path, photo_bytes: PhotoBytes
) -> None:
    photo = tmp_path / "p.png"
    photo.write_bytes(photo_bytes())
    rows = [make_row(number, "failed", sku="A", source_uri=str(photo)) for number in range(5)]
    assert len(Page(contact_sheet(rows, tmp_path / "s.html", folder_store, key=KEY)).pictures) == 1


def test_missing_pictures_are_shown_as_missing(folder_store: Store, make_row: MakeRow, tmp_path: Path) -> None:
    row = make_row(0, source_uri=str(tmp_path / "none.png"), image_uri=folder_store.uri_of("images/none.png"))
    page = Page(contact_sheet([row], tmp_path / "s.html", folder_store, key=KEY))
    assert page.pictures == []
    assert "the image is not in the store" in page.text


def test_a_run_without_images_has_a_page_too(folder_store: Store, tmp_path: Path) -> None:
    assert "This run has no images." in Page(contact_sheet([], tmp_path / "s.html", folder_store, key=KEY)).text


def test_a_long_run_names_the_number_of_images_left_out(
    folder_store: Store, make_row: MakeRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_CARDS", 3)
    rows = [make_row(number, "failed", source_uri=str(tmp_path / "none.png")) for number in range(5)]
    page = Page(contact_sheet(rows, tmp_path / "s.html", folder_store, key=KEY))
    assert page.tags.count("article") == 3
    assert "2 more images are not shown here" in page.text
    assert "5 images" in page.text


def test_a_card_says_by_which_method_its_image_was_made(rows: list[Row], tmp_path: Path, store: Store) -> None:
    text = Page(contact_sheet(rows, tmp_path / "page.html", store, key=KEY)).text
    assert text.count("blend") == 2, "not where there is no image"
