from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from pinco.catalog.delivery.images import put_image
from pinco.catalog.manifest.connect import TABLE, ManifestError
from pinco.catalog.manifest.pending import pending_key
from pinco.catalog.manifest.readers import find_generation, read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import GRACE, Compacted, compact, vacuum
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]
LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def made(make_row: MakeRow) -> Callable[..., Row]:
    """A row whose image is in the store."""

    def make(store: Store, number: int, **given: object) -> Row:
        uri, sha256 = put_image(store, str(make_row(number).generation_id), b"image %d" % number, "png")
        return make_row(number, image_uri=uri, image_sha256=sha256, **given)

    return make


def _files(store: Store) -> list[str]:
    return [
        info.key for info in store.list(f"{TABLE}/") if info.key.endswith(".parquet") and "_delta_log" not in info.key
    ]


def test_compaction_makes_one_file_of_many_and_changes_no_row(store: Store, make_row: MakeRow) -> None:
    table = ManifestTable(store)
    assert compact(table) == Compacted(0, 0)
    for batch in range(5):
        rows = [make_row(0, run_id=f"run-{batch}"), make_row(batch + 1)]
        table.append(rows, run_id=f"run-{batch}", batch=1, base=table.version)
    before = read_rows(table)
    assert compact(table) == Compacted(5, 1)
    assert read_rows(ManifestTable(store)) == before
    assert [row.run_id for row in before if row.sku == "0000"] == ["run-4"]
    assert [row.sequence for row in read_rows(table)] == [1, 2, 3, 4, 5, 5]
    assert store.head(f"{TABLE}/_delta_log/_last_checkpoint") is not None


def test_a_compacted_file_has_a_bloom_filter_on_the_generation(folder_store: Store, make_row: MakeRow) -> None:
    table = ManifestTable(folder_store)
    for batch in range(2):
        table.append([make_row(batch)], run_id="run-a", batch=batch + 1, base=0)
    compact(table)
    assert table.delta is not None
    (uri,) = table.delta.file_uris()
    found = duckdb.sql(
        f"SELECT path_in_schema FROM parquet_metadata('{uri}') WHERE bloom_filter_offset IS NOT NULL"
    ).fetchall()
    assert found == [("generation_id",)]
    assert find_generation(table, str(make_row(1).generation_id)).sku == "0001"


def test_a_run_goes_on_while_the_table_is_compacted(folder_store: Store, make_row: MakeRow) -> None:
    table, other = ManifestTable(folder_store), ManifestTable(folder_store)
    for batch in range(3):
        table.append([make_row(batch)], run_id="run-a", batch=batch + 1, base=0)
    compact(other)
    table.append([make_row(3)], run_id="run-a", batch=4, base=0)
    assert len(read_rows(table)) == 4


def test_a_vacuum_leaves_alone_what_may_still_be_needed(store: Store, made: Callable[..., Row]) -> None:
    table = ManifestTable(store)
    for batch in range(2):
        table.append([made(store, batch)], run_id="run-a", batch=batch + 1, base=0)
    compact(table)
    put_image(store, "nobodys", b"image", "png")
    found = vacuum(table, delete=True)
    assert (found.table_files, found.images, found.waiting, found.size) == ((), (), (), 0)
    assert len(_files(store)) == 3


def test_a_vacuum_says_what_is_left_over_and_deletes_it_when_asked(store: Store, made: Callable[..., Row]) -> None:
    table = ManifestTable(store)
    rows = [made(store, 0), made(store, 1)]
    for batch, row in enumerate(rows):
        table.append([row], run_id="run-a", batch=batch + 1, base=0)
    redone = made(store, 0, run_id="run-b")
    table.append([redone], run_id="run-b", batch=1, base=table.version)
    compact(table)
    orphan = put_image(store, "nobodys", b"image", "png")[0]
    waited_for = put_image(store, "waited-for", b"image", "png")[0]
    store.put_if_absent(pending_key("images/" + waited_for.rpartition("/")[2]), b"{}")
    in_vain = pending_key("images/never-came-0123456789abcdef.png")
    store.put_if_absent(in_vain, b"{}")
    before = _files(store)

    found = vacuum(table, now=LATER)
    assert len(found.table_files) == 3 and set(found.table_files) < set(before)
    assert [store.uri_of(key) for key in found.images] == [orphan]
    assert found.waiting == (in_vain,)
    assert found.size > len(b"image") + len(b"{}")
    assert _files(store) == before and store.head(in_vain)

    assert vacuum(table, now=LATER, delete=True) == found
    assert set(_files(store)) == set(before) - set(found.table_files)
    assert {info.key for info in store.list("images/")} == {
        "images/" + str(uri).rpartition("/")[2] for uri in (rows[0].image_uri, rows[1].image_uri, waited_for)
    }
    assert store.head(in_vain) is None
    assert read_rows(ManifestTable(store)) == [rows[1], redone]
    assert vacuum(ManifestTable(store), now=LATER).size == 0
    with pytest.raises(ManifestError):
        read_rows(ManifestTable(store, as_of=1))


def test_what_lost_races_left_in_the_table_is_found(folder_store: Store, make_row: MakeRow) -> None:
    table = ManifestTable(folder_store)
    table.append([make_row(0)], run_id="run-a", batch=1, base=0)
    folder_store.put_if_absent(f"{TABLE}/part-00000-lost.parquet", b"rows")
    assert vacuum(table, now=LATER).table_files == (f"{TABLE}/part-00000-lost.parquet",)


def test_a_store_without_a_table_can_be_vacuumed(folder_store: Store) -> None:
    put_image(folder_store, "nobodys", b"image", "png")
    assert len(vacuum(ManifestTable(folder_store), now=LATER, delete=True).images) == 1
    assert list(folder_store.list()) == []


def test_the_grace_is_longer_than_a_night() -> None:
    assert timedelta(days=7) <= GRACE


@pytest.mark.parametrize(
    "note",
    ["images/README", "images/mug.png", "_pending/README", "_pending/a.json", "manifest/README", "manifest/x.parquet"],
)
def test_files_of_others_are_neither_listed_nor_deleted(store: Store, make_row: MakeRow, note: str) -> None:
    table = ManifestTable(store)
    table.append([make_row(0)], run_id="run-a", batch=1, base=0)
    store.put_if_absent(note, b"not ours")
    found = vacuum(table, now=LATER, delete=True)
    assert (found.table_files, found.images, found.waiting) == ((), (), ())
    assert store.get(note) == b"not ours"
