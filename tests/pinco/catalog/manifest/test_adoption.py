from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from pinco.catalog.delivery.images import image_key
from pinco.catalog.manifest.adoption import adopt_pending, commit_rows
from pinco.catalog.manifest.history import history
from pinco.catalog.manifest.pending import PENDING, keep_image, pending_key
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.base import Store, StoreError

MakeRow = Callable[..., Row]


@pytest.fixture
def made(make_row: MakeRow) -> Callable[..., Row]:
    """A row whose image is in the store, and that waits beside it."""

    def make(store: Store, number: int, content: bytes = b"image", **given: object) -> Row:
        file = content + b" %d" % number
        sha256 = hashlib.sha256(file).hexdigest()
        generation = str(make_row(number).generation_id)
        row = make_row(
            number, image_uri=store.uri_of(image_key(generation, sha256, "png")), image_sha256=sha256, **given
        )
        keep_image(store, row, file, "png")
        return row

    return make


def _statuses(store: Store) -> dict[str, tuple[str, str]]:
    return {row.sku: (row.run_id, row.status) for row in read_rows(ManifestTable(store))}


def _waiting(store: Store) -> list[str]:
    return [info.key for info in store.list(PENDING)]


def test_rows_in_the_manifest_wait_no_longer(store: Store, made: Callable[..., Row], make_row: MakeRow) -> None:
    rows = [made(store, 0), make_row(1, "failed"), made(store, 2)]
    assert len(_waiting(store)) == 2
    commit_rows(ManifestTable(store), rows, run_id="run-a", batch=1, base=0)
    assert _waiting(store) == []
    assert _statuses(store) == {"0000": ("run-a", "ok"), "0001": ("run-a", "failed"), "0002": ("run-a", "ok")}


def test_what_a_dead_run_finished_is_adopted_once(store: Store, made: Callable[..., Row]) -> None:
    rows = [made(store, 0), made(store, 2)]
    table = ManifestTable(store)
    assert adopt_pending(table, "run-b") == 2
    assert read_rows(table) == rows, "as the run made them that died, with its id"
    assert next(version.run for version in history(store)) == "run-b.adopted"
    assert _waiting(store) == []
    assert adopt_pending(table, "run-b") == adopt_pending(ManifestTable(store), "run-c") == 0


def test_where_nothing_waits_nothing_is_made(folder_store: Store, made: Callable[..., Row]) -> None:
    table = ManifestTable(folder_store)
    assert adopt_pending(table, "run-b") == 0
    assert table.delta is None


def test_a_row_whose_image_never_came_keeps_waiting(folder_store: Store, made: Callable[..., Row]) -> None:
    """Its run may be about to put it."""
    key = str(made(folder_store, 0).image_uri).rpartition("/")[2]
    folder_store.delete(f"images/{key}")
    assert adopt_pending(ManifestTable(folder_store), "run-b") == 0
    assert _waiting(folder_store) == [pending_key(f"images/{key}")]


def test_an_image_that_is_not_whole_is_not_adopted(folder_store: Store, made: Callable[..., Row]) -> None:
    key = "images/" + str(made(folder_store, 0).image_uri).rpartition("/")[2]
    folder_store.delete(key)
    folder_store.put_if_absent(key, b"ima")
    assert adopt_pending(ManifestTable(folder_store), "run-b") == 0


def test_what_is_no_row_is_passed_over(folder_store: Store, made: Callable[..., Row]) -> None:
    folder_store.put_if_absent(f"{PENDING}gen-0.png.json", b"garbage")
    made(folder_store, 0)
    assert adopt_pending(ManifestTable(folder_store), "run-b") == 1
    assert _waiting(folder_store) == [f"{PENDING}gen-0.png.json"]


def test_a_waiting_row_never_replaces_what_is_done(
    folder_store: Store, made: Callable[..., Row], make_row: MakeRow
) -> None:
    table = ManifestTable(folder_store)
    known = [make_row(0, run_id="run-x"), make_row(1, "failed", "run-x")]
    table.append(known, run_id="run-x", batch=1, base=0)
    for number in (0, 1):
        made(folder_store, number)
    assert adopt_pending(table, "run-b") == 1
    assert _statuses(folder_store) == {"0000": ("run-x", "ok"), "0001": ("run-a", "ok")}
    assert _waiting(folder_store) == [], "what is done waits for nothing"


def test_two_images_of_one_job_are_one_row(folder_store: Store, made: Callable[..., Row]) -> None:
    """As two runs leave them that died together, on devices that do not give the same bytes."""
    for content in (b"one", b"other"):
        made(folder_store, 0, content)
    assert adopt_pending(ManifestTable(folder_store), "run-c") == 1
    assert len(_statuses(folder_store)) == 1


def test_a_live_run_whose_row_was_adopted_appends_nothing_twice(folder_store: Store, made: Callable[..., Row]) -> None:
    alive = ManifestTable(folder_store)
    row = made(folder_store, 0)
    adopt_pending(ManifestTable(folder_store), "run-b")
    appended = commit_rows(alive, [row], run_id="run-a", batch=1, base=0)
    assert (appended.rows, appended.dropped) == (0, 1)
    assert _statuses(folder_store) == {"0000": ("run-a", "ok")}


def test_a_store_that_forbids_removal_only_warns(
    folder_store: Store, made: Callable[..., Row], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbid(keys: list[str]) -> None:
        raise StoreError("access denied")

    monkeypatch.setattr(folder_store, "delete_many", forbid)
    rows = [made(folder_store, 0)]
    assert commit_rows(ManifestTable(folder_store), rows, run_id="run-a", batch=1, base=0).rows == 1
    assert "access denied" in caplog.text
    assert adopt_pending(ManifestTable(folder_store), "run-b") == 0
