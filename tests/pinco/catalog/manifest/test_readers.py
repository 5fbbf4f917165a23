from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from pinco.catalog.manifest.commits import CommitLog
from pinco.catalog.manifest.parts import write_part
from pinco.catalog.manifest.readers import (
    UnknownGenerationError,
    export_manifest,
    find_generation,
    read_manifest,
    read_rows,
)
from pinco.catalog.manifest.schema import SCHEMA, Row
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]


def _commit(store: Store, run_id: str, batch: int, rows: list[Row]) -> None:
    log = CommitLog(store)
    log.commit(run_id=run_id, batch=batch, parts=[write_part(store, run_id, batch, rows)], base=log.head)


def test_an_empty_store_has_an_empty_manifest(store: Store) -> None:
    assert read_manifest(store).schema.equals(SCHEMA, check_metadata=True)
    assert read_rows(store) == []


def test_the_latest_commit_of_a_job_wins(store: Store, make_row: MakeRow) -> None:
    _commit(store, "run-a", 0, [make_row(0, "failed"), make_row(1)])
    _commit(store, "run-b", 0, [make_row(2, run_id="run-b"), make_row(0, run_id="run-b")])
    rows = read_rows(store)
    assert [(row.sku, row.run_id, row.status) for row in rows] == [
        ("0001", "run-a", "ok"),
        ("0002", "run-b", "ok"),
        ("0000", "run-b", "ok"),
    ]


def test_the_rows_of_one_run(folder_store: Store, make_row: MakeRow) -> None:
    _commit(folder_store, "run-a", 0, [make_row(0, "failed"), make_row(1)])
    _commit(folder_store, "run-b", 0, [make_row(0, run_id="run-b")])
    assert [row.sku for row in read_rows(folder_store, run_id="run-a")] == ["0001"]


def test_parts_that_no_commit_names_are_not_read(folder_store: Store, make_row: MakeRow) -> None:
    _commit(folder_store, "run-a", 0, [make_row(0)])
    write_part(folder_store, "run-a", 1, [make_row(1)])
    folder_store.put_if_absent("_parts/run-a/garbage.parquet", b"garbage")
    assert [row.sku for row in read_rows(folder_store)] == ["0000"]


def test_only_the_chosen_columns(folder_store: Store, make_row: MakeRow) -> None:
    _commit(folder_store, "run-a", 0, [make_row(0)])
    table = read_manifest(folder_store, columns=["status", "sku"])
    assert table.to_pylist() == [{"status": "ok", "sku": "0000"}]


def test_duckdb_reads_the_export(store: Store, make_row: MakeRow, tmp_path: Path) -> None:
    _commit(store, "run-a", 0, [make_row(0, not_scored=("extension",)), make_row(1, "failed")])
    out = tmp_path / "new folder" / "manifest.parquet"
    assert export_manifest(store, out) == 2
    found = duckdb.sql(f"select sku, status, not_scored, extract(year from created_at) from '{out}' order by sku")
    assert found.fetchall() == [("0000", "ok", ["extension"], 2026), ("0001", "failed", [], 2026)]
    assert pq.read_schema(out).equals(SCHEMA, check_metadata=True)
    assert [path.name for path in out.parent.iterdir()] == ["manifest.parquet"]


def test_an_export_replaces_the_one_before(folder_store: Store, make_row: MakeRow, tmp_path: Path) -> None:
    out = tmp_path / "manifest.parquet"
    assert export_manifest(folder_store, out) == 0
    _commit(folder_store, "run-a", 0, [make_row(0)])
    _commit(folder_store, "run-b", 0, [make_row(1, run_id="run-b")])
    assert export_manifest(folder_store, out, run_id="run-b") == 1
    assert pq.read_table(out).column("sku").to_pylist() == ["0001"]


def test_a_generation_is_found_by_its_first_digits(folder_store: Store, make_row: MakeRow) -> None:
    rows = [make_row(number) for number in range(3)]
    _commit(folder_store, "run-a", 0, rows)
    wanted = str(rows[1].generation_id)
    assert find_generation(folder_store, wanted) == rows[1]
    assert find_generation(folder_store, wanted[:12]) == rows[1]


def test_a_superseded_generation_is_found_too(folder_store: Store, make_row: MakeRow) -> None:
    old = make_row(0, generation_id="a" * 64)
    _commit(folder_store, "run-a", 0, [old])
    _commit(folder_store, "run-b", 0, [make_row(0, run_id="run-b", generation_id="b" * 64)])
    assert find_generation(folder_store, "aaaa") == old


def test_unknown_and_ambiguous_generations_are_said(folder_store: Store, make_row: MakeRow) -> None:
    _commit(folder_store, "r", 0, [make_row(0, generation_id="ab" * 32), make_row(1, generation_id="ac" * 32)])
    with pytest.raises(UnknownGenerationError, match="2 images begin with 'a'"):
        find_generation(folder_store, "a")
    with pytest.raises(UnknownGenerationError, match="no image has"):
        find_generation(folder_store, "f")
