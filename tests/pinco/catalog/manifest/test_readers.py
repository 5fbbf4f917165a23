from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from pinco.catalog.manifest.readers import (
    Timing,
    UnknownGenerationError,
    export_manifest,
    find_generation,
    job_states,
    read_manifest,
    read_rows,
    recent_images,
    run_began_with,
)
from pinco.catalog.manifest.schema import SCHEMA, Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import compact
from pinco.catalog.store.access import open_store
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]


def _append(store: Store, run_id: str, rows: list[Row]) -> ManifestTable:
    table = ManifestTable(store)
    table.append(rows, run_id=run_id, batch=1, base=table.version)
    return table


def _placed(store: Store, row: Row) -> Row:
    """The row as readers give it."""
    return replace(row, image_uri=store.uri_of(str(row.image_uri)))


def test_an_empty_store_has_an_empty_manifest(store: Store) -> None:
    assert read_manifest(ManifestTable(store)).schema.equals(SCHEMA, check_metadata=True)
    assert read_rows(ManifestTable(store)) == []


def test_the_latest_commit_of_a_job_wins(store: Store, make_row: MakeRow) -> None:
    _append(store, "run-a", [make_row(0, "failed"), make_row(1)])
    _append(store, "run-b", [make_row(2, run_id="run-b"), make_row(0, run_id="run-b")])
    rows = read_rows(ManifestTable(store))
    assert [(row.sku, row.run_id, row.status) for row in rows] == [
        ("0001", "run-a", "ok"),
        ("0000", "run-b", "ok"),
        ("0002", "run-b", "ok"),
    ]


def test_the_rows_of_one_run(folder_store: Store, make_row: MakeRow) -> None:
    _append(folder_store, "run-a", [make_row(0, "failed"), make_row(1)])
    _append(folder_store, "run-b", [make_row(0, run_id="run-b")])
    assert [row.sku for row in read_rows(ManifestTable(folder_store), run_id="run-a")] == ["0001"]


def test_a_row_that_a_later_run_replaced_is_not_its_runs_any_more(store: Store, make_row: MakeRow) -> None:
    """Also when compaction has put both into one file."""
    _append(store, "run-a", [make_row(0, "failed"), make_row(1)])
    table = _append(store, "run-b", [make_row(0, run_id="run-b"), make_row(2, run_id="run-b")])
    for _ in range(2):
        assert [row.sku for row in read_rows(table, run_id="run-a")] == ["0001"]
        assert [row.sku for row in read_rows(table, run_id="run-b")] == ["0000", "0002"]
        assert read_rows(table, run_id="nobody") == []
        compact(table)


def test_an_image_that_could_not_be_made_again_stays_visible(store: Store, make_row: MakeRow) -> None:
    _append(store, "night", [make_row(0, "review"), make_row(1), make_row(2)])
    _append(
        store, "redo", [make_row(0, "failed", "redo"), make_row(1, "quarantined", "redo"), make_row(2, "ok", "redo")]
    )
    table = _append(store, "again", [make_row(1, "failed", "again", transient=True)])
    for _ in range(2):
        rows = {row.sku: (row.status, row.run_id) for row in read_rows(table)}
        assert rows == {"0000": ("review", "run-a"), "0001": ("ok", "run-a"), "0002": ("ok", "redo")}
        compact(table)


def test_a_run_has_what_it_failed_to_make_again_among_its_rows(store: Store, make_row: MakeRow) -> None:
    _append(store, "night", [make_row(n, run_id="night") for n in range(3)])
    _append(store, "redo", [make_row(n, "failed", "redo") for n in range(3)])
    table = _append(store, "third", [make_row(1, "failed", "third"), make_row(2, "ok", "third")])
    for _ in range(2):
        runs = {run: [row.sku for row in read_rows(table, run_id=run)] for run in ("night", "redo", "third")}
        assert runs == {"night": ["0000", "0001"], "redo": ["0000"], "third": ["0001", "0002"]}
        compact(table)


def test_addresses_are_those_of_the_place_that_the_store_is_at(
    folder_store: Store, make_row: MakeRow, tmp_path: Path
) -> None:
    """Also of rows that hold the address that the store had when they were made."""
    old = make_row(1, image_uri="s3://shop/old/place/images/b-0123456789abcdef.png")
    _append(folder_store, "run-a", [make_row(0, image_uri="images/a-0123456789abcdef.png"), old, make_row(2, "failed")])
    Path(folder_store.uri).rename(tmp_path / "moved")
    moved = ManifestTable(open_store(str(tmp_path / "moved")))
    there = [str(tmp_path / "moved" / "images" / f"{name}-0123456789abcdef.png") for name in "ab"]
    assert read_manifest(moved).column("image_uri").to_pylist() == [*there, None]
    assert [row.image_uri for row in read_rows(moved)] == [*there, None]
    export_manifest(moved, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column("image_uri").to_pylist() == [*there, None]
    stored = moved.dataset().to_table(["image_uri"]).column("image_uri").to_pylist()
    assert stored[0] == "images/a-0123456789abcdef.png"


def test_files_that_no_version_names_are_not_read(folder_store: Store, make_row: MakeRow) -> None:
    table = _append(folder_store, "run-a", [make_row(0)])
    folder_store.put_if_absent("manifest/part-00000-of-a-lost-race.parquet", b"garbage")
    assert [row.sku for row in read_rows(table)] == ["0000"]


def test_rows_of_one_append_come_in_the_order_of_the_sheet(folder_store: Store, make_row: MakeRow) -> None:
    table = _append(folder_store, "run-a", [make_row(number) for number in (3, 1, 2)])
    assert [row.sku for row in read_rows(table)] == ["0001", "0002", "0003"]


def test_the_state_of_a_job_is_that_of_its_visible_row(store: Store, make_row: MakeRow) -> None:
    first = [make_row(0), make_row(1, "failed"), make_row(2, "failed", transient=True), make_row(3, "rejected")]
    _append(store, "run-a", first)
    second = [make_row(0, "failed", "run-b"), make_row(1, "review", "run-b"), make_row(4, "failed", transient=True)]
    _append(store, "run-b", second)
    table = _append(store, "run-c", [make_row(4, "quarantined", "run-c")])
    jobs = [make_row(number).job_id for number in range(6)]
    for _ in range(2):
        states = job_states(table, jobs)
        assert (states.done, states.held) == ({jobs[0], jobs[1], jobs[3]}, {jobs[4]})
        compact(table)
    assert job_states(table, jobs[3:4]).done == {jobs[3]}
    assert job_states(table, []).done == frozenset()


def test_the_last_images_say_how_long_they_took(store: Store, make_row: MakeRow) -> None:
    assert recent_images(ManifestTable(store), 5) == []
    _append(store, "run-a", [make_row(number, seconds=100.0) for number in range(4)])
    _append(store, "run-b", [make_row(9, "failed")])
    table = _append(store, "run-c", [make_row(number, seconds=float(number)) for number in (5, 6, 7)])
    assert [image.seconds for image in recent_images(table, 2)] == [6.0, 7.0]
    assert [image.seconds for image in recent_images(table, 4)] == [100.0, 5.0, 6.0, 7.0]


def test_the_image_that_a_run_finished_first(folder_store: Store, make_row: MakeRow) -> None:
    at = [datetime(2026, 5, 1, hour, tzinfo=UTC) for hour in range(4)]
    _append(folder_store, "run-a", [make_row(0, created_at=at[0])])
    later = [make_row(1, "failed", "run-b", created_at=at[1]), make_row(2, run_id="run-b", created_at=at[3])]
    table = _append(folder_store, "run-b", [*later, make_row(3, run_id="run-b", created_at=at[2])])
    assert run_began_with(table, "run-b") == Timing("run-b", at[2], 2.0)
    assert run_began_with(table, "nobody") is None


def test_only_the_chosen_columns(folder_store: Store, make_row: MakeRow) -> None:
    _append(folder_store, "run-a", [make_row(0)])
    table = read_manifest(ManifestTable(folder_store), columns=["status", "sku"])
    assert table.to_pylist() == [{"status": "ok", "sku": "0000"}]


def test_duckdb_reads_the_export(store: Store, make_row: MakeRow, tmp_path: Path) -> None:
    _append(store, "run-a", [make_row(0, not_scored=("extension",)), make_row(1, "failed")])
    out = tmp_path / "new folder" / "manifest.parquet"
    assert export_manifest(ManifestTable(store), out) == 2
    found = duckdb.sql(f"select sku, status, not_scored, extract(year from created_at) from '{out}' order by sku")
    assert found.fetchall() == [("0000", "ok", ["extension"], 2026), ("0001", "failed", [], 2026)]
    assert pq.read_schema(out).equals(SCHEMA, check_metadata=True)
    assert [path.name for path in out.parent.iterdir()] == ["manifest.parquet"]


def test_an_export_replaces_the_one_before(folder_store: Store, make_row: MakeRow, tmp_path: Path) -> None:
    out = tmp_path / "manifest.parquet"
    assert export_manifest(ManifestTable(folder_store), out) == 0
    _append(folder_store, "run-a", [make_row(0)])
    _append(folder_store, "run-b", [make_row(1, run_id="run-b")])
    assert export_manifest(ManifestTable(folder_store), out, run_id="run-b") == 1
    assert pq.read_table(out).column("sku").to_pylist() == ["0001"]


def test_a_generation_is_found_by_its_first_digits(folder_store: Store, make_row: MakeRow) -> None:
    rows = [make_row(number) for number in range(3)]
    _append(folder_store, "run-a", rows)
    _append(folder_store, "run-b", [make_row(7, "failed")])
    wanted = str(rows[1].generation_id)
    assert find_generation(ManifestTable(folder_store), wanted) == _placed(folder_store, rows[1])
    assert find_generation(ManifestTable(folder_store), wanted[:12]) == _placed(folder_store, rows[1])


def test_a_superseded_generation_is_found_too(folder_store: Store, make_row: MakeRow) -> None:
    old = make_row(0, generation_id="a" * 64)
    _append(folder_store, "run-a", [old])
    _append(folder_store, "run-b", [make_row(0, run_id="run-b", generation_id="b" * 64)])
    assert find_generation(ManifestTable(folder_store), "aaaa") == _placed(folder_store, old)


def test_unknown_and_ambiguous_generations_are_said(folder_store: Store, make_row: MakeRow) -> None:
    _append(folder_store, "r", [make_row(0, generation_id="ab" * 32), make_row(1, generation_id="ac" * 32)])
    with pytest.raises(UnknownGenerationError, match="2 images begin with 'a'"):
        find_generation(ManifestTable(folder_store), "a")
    with pytest.raises(UnknownGenerationError, match="no image has"):
        find_generation(ManifestTable(folder_store), "f")
    for strange in ("", "x' OR 'a' = 'a", "A"):
        with pytest.raises(UnknownGenerationError, match="no image has"):
            find_generation(ManifestTable(folder_store), strange)


def test_a_generation_is_found_in_compacted_files_too(store: Store, make_row: MakeRow) -> None:
    rows = [make_row(number) for number in range(3)]
    for number, row in enumerate(rows):
        table = _append(store, f"run-{number}", [row])
    compact(table)
    assert find_generation(table, str(rows[2].generation_id)) == _placed(store, rows[2])
    assert find_generation(table, str(rows[2].generation_id)[:9]) == _placed(store, rows[2])
