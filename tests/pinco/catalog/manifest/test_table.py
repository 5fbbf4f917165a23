from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from pinco.catalog.manifest import table as module
from pinco.catalog.manifest.connect import TABLE, ManifestError
from pinco.catalog.manifest.history import history
from pinco.catalog.manifest.readers import job_states, read_rows
from pinco.catalog.manifest.schema import SCHEMA, SCHEMA_VERSION, Row
from pinco.catalog.manifest.table import CONFIGURATION, VERSION_PROPERTY, Appended, ManifestTable
from pinco.catalog.manifest.upkeep import compact
from pinco.catalog.store.access import open_store
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]


def append(table: ManifestTable, run_id: str, batch: int, rows: list[Row], base: int = 0) -> Appended:
    return table.append(rows, run_id=run_id, batch=batch, base=base)


def appended(store: Store) -> list[tuple[str, int]]:
    """(run, rows) of every append, in order."""
    versions = reversed(list(history(store)))
    return [(version.run, version.rows) for version in versions if version.run]


def test_an_append_makes_rows_visible_and_the_first_makes_the_table(store: Store, make_row: MakeRow) -> None:
    table = ManifestTable(store)
    assert (table.version, table.delta, read_rows(table)) == (0, None, [])
    assert append(table, "run-a", 1, [make_row(0), make_row(1, "failed")]) == Appended(1, 2, 0)
    image = make_row(0)
    image = replace(image, image_uri=store.uri_of(str(image.image_uri)))
    assert read_rows(table) == read_rows(ManifestTable(store)) == [image, make_row(1, "failed")]
    states = job_states(table, [make_row(number).job_id for number in range(3)])
    assert (states.done, states.held) == ({make_row(0).job_id}, {make_row(1).job_id})


def test_rows_carry_the_version_that_they_came_with(folder_store: Store, make_row: MakeRow) -> None:
    table = ManifestTable(folder_store)
    for batch in (1, 2, 3):
        assert append(table, "run-a", batch, [make_row(batch)]).version == table.version == batch
    assert [row.sequence for row in read_rows(table)] == [1, 2, 3]


def test_looking_makes_no_store(folder_store: Store) -> None:
    assert read_rows(ManifestTable(folder_store)) == []
    assert not Path(folder_store.uri).exists()


def test_a_batch_handed_in_twice_is_appended_once(store: Store, make_row: MakeRow) -> None:
    first, again = ManifestTable(store), ManifestTable(store)
    said = append(first, "run-a", 1, [make_row(0)])
    assert append(first, "run-a", 1, [make_row(0)]) == said
    assert append(again, "run-a", 1, [make_row(0)]) == said, "also by a process that had not seen it"
    assert appended(store) == [("run-a", 1)]


def test_the_second_run_drops_what_is_done_meanwhile(store: Store, make_row: MakeRow) -> None:
    a, b = ManifestTable(store), ManifestTable(store)
    append(a, "run-a", 1, [make_row(0), make_row(1, "failed")])
    assert append(b, "run-b", 1, [make_row(n, run_id="run-b") for n in range(3)]) == Appended(2, 2, 1)
    rows = {row.sku: (row.run_id, row.status) for row in read_rows(ManifestTable(store))}
    assert rows == {"0000": ("run-a", "ok"), "0001": ("run-b", "ok"), "0002": ("run-b", "ok")}


def test_a_batch_with_nothing_new_appends_nothing(folder_store: Store, make_row: MakeRow) -> None:
    a, b = ManifestTable(folder_store), ManifestTable(folder_store)
    append(a, "run-a", 1, [make_row(0)])
    for _ in range(2):
        assert append(b, "run-b", 1, [make_row(0, run_id="run-b")]) == Appended(1, 0, 1)
    assert [row.run_id for row in read_rows(a)] == ["run-a"]


@pytest.mark.parametrize("status", ["failed", "quarantined"])
def test_a_failure_never_hides_work_that_was_done_meanwhile(
    folder_store: Store, make_row: MakeRow, status: str
) -> None:
    a, b = ManifestTable(folder_store), ManifestTable(folder_store)
    append(a, "run-a", 1, [make_row(0)])
    append(b, "run-b", 1, [make_row(0, status, "run-b")])
    assert [row.status for row in read_rows(b)] == ["ok"]


def test_what_was_done_before_the_plan_can_be_made_again(folder_store: Store, make_row: MakeRow) -> None:
    table = ManifestTable(folder_store)
    append(table, "run-a", 1, [make_row(0)])
    assert append(table, "run-b", 1, [make_row(0, run_id="run-b")], base=table.version).dropped == 0
    assert [row.run_id for row in read_rows(table)] == ["run-b"]


def test_what_was_compacted_meanwhile_is_still_known_as_done_after_the_plan(
    folder_store: Store, make_row: MakeRow
) -> None:
    """Compaction puts rows from before and after the plan into one file; what counts is each row's own sequence."""
    a = ManifestTable(folder_store)
    append(a, "run-a", 1, [make_row(0), make_row(1, "failed")])
    b = ManifestTable(folder_store)
    base = b.version
    append(a, "run-a", 2, [make_row(1), make_row(2)])
    compact(a)
    said = append(b, "run-b", 1, [make_row(number, run_id="run-b") for number in range(3)], base=base)
    assert (said.rows, said.dropped) == (1, 2)
    assert {row.sku: row.run_id for row in read_rows(b)} == {"0000": "run-b", "0001": "run-a", "0002": "run-a"}


def test_a_job_twice_in_one_batch_is_one_row(folder_store: Store, make_row: MakeRow) -> None:
    table = ManifestTable(folder_store)
    rows = [
        *(make_row(0, "failed"), make_row(1), make_row(2, "failed")),
        *(make_row(0), make_row(1, "failed"), make_row(2, "quarantined")),
    ]
    assert append(table, "run-a", 1, rows) == Appended(1, 3, 3)
    assert {row.sku: row.status for row in read_rows(table)} == {"0000": "ok", "0001": "ok", "0002": "quarantined"}


def test_an_append_whose_answer_was_lost_is_not_appended_again(
    folder_store: Store, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_fail(*args: Any, **options: Any) -> None:
        write_deltalake(*args, **options)
        raise OSError("the connection was closed")

    table = ManifestTable(folder_store)
    append(table, "run-a", 1, [make_row(0)])
    monkeypatch.setattr(module, "write_deltalake", write_and_fail)
    assert append(table, "run-a", 2, [make_row(0), make_row(1)]) == Appended(2, 1, 1)
    assert appended(folder_store) == [("run-a", 1), ("run-a", 1)]


def test_an_append_that_fails_is_an_error_with_the_address(
    folder_store: Store, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "write_deltalake", fail)
    with pytest.raises(ManifestError, match=r"manifest cannot be written: no space left"):
        append(ManifestTable(folder_store), "run-a", 1, [make_row(0)])


def test_a_writer_that_is_always_too_late_gives_up_with_a_sentence(
    folder_store: Store, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any, **__: Any) -> None:
        raise module.CommitFailedError("somebody was faster")

    monkeypatch.setattr(module, "write_deltalake", lose)
    monkeypatch.setattr(module, "_TRIES", 3)
    with pytest.raises(ManifestError, match="other writers were faster 3 times"):
        append(ManifestTable(folder_store), "run-a", 1, [make_row(0)])


def test_the_manifest_can_be_read_as_it_was(folder_store: Store, make_row: MakeRow) -> None:
    table = ManifestTable(folder_store)
    append(table, "run-a", 1, [make_row(0, "failed", transient=True)])
    between = datetime.now(UTC)
    append(table, "run-b", 1, [make_row(0), make_row(1)])
    compact(table)
    for as_of in (1, between):
        then = ManifestTable(folder_store, as_of=as_of)
        assert [row.status for row in read_rows(then)] == ["failed"]
    with pytest.raises(ManifestError, match="manifest cannot be used"):
        ManifestTable(folder_store, as_of=99)


def test_a_newer_manifest_is_refused(folder_store: Store) -> None:
    newer = CONFIGURATION | {VERSION_PROPERTY: str(SCHEMA_VERSION + 1)}
    DeltaTable.create(folder_store.uri_of(TABLE), SCHEMA, configuration=newer, raise_if_key_not_exists=False)
    with pytest.raises(ManifestError, match="update Pinco"):
        ManifestTable(folder_store)


def test_an_older_table_can_be_read_and_gets_todays_columns_with_the_first_append(
    folder_store: Store, make_row: MakeRow
) -> None:
    """As a table of version 1 would be, without two of today's nullable columns."""
    older = SCHEMA.remove(SCHEMA.get_field_index("environment")).remove_metadata()
    older = older.remove(older.get_field_index("threads"))
    configuration = CONFIGURATION | {VERSION_PROPERTY: "1"}
    uri = folder_store.uri_of(TABLE)
    DeltaTable.create(uri, older, configuration=configuration, raise_if_key_not_exists=False)
    table = ManifestTable(folder_store)
    assert (table.schema_version, read_rows(table)) == (1, [])
    append(table, "run-a", 1, [make_row(0, threads=2)])
    assert [row.threads for row in read_rows(ManifestTable(folder_store))] == [2]
    assert ManifestTable(folder_store).schema_version == SCHEMA_VERSION


def test_another_delta_table_is_no_manifest(folder_store: Store) -> None:
    import pyarrow as pa

    write_deltalake(folder_store.uri_of(TABLE), pa.table({"x": [1]}), commit_properties=CommitProperties())
    with pytest.raises(ManifestError, match="not a manifest"):
        ManifestTable(folder_store)


def test_credentials_that_were_renewed_are_used(folder_store: Store, make_row: MakeRow) -> None:
    table = ManifestTable(folder_store)
    append(table, "run-a", 1, [make_row(0)])
    former = table.delta
    folder_store.object_store_options = lambda: {"aws_session_token": "new"}  # type: ignore[method-assign]
    append(table, "run-a", 2, [make_row(1)])
    assert table.delta is not former
    assert len(read_rows(table)) == 2


def _run(uri: str, run_id: str, rows: list[Row], start: Any) -> None:
    table = ManifestTable(open_store(uri))
    start.wait()
    for batch in range(0, len(rows), 4):
        append(table, run_id, batch // 4 + 1, rows[batch : batch + 4])


def _one_row_per_job(store: Store, jobs: int) -> None:
    assert sum(rows for _, rows in appended(store)) == jobs, "no job was appended twice"
    rows = read_rows(ManifestTable(store))
    assert len({row.job_id for row in rows}) == len(rows) == jobs


def test_two_processes_append_one_sheet(folder_store: Store, make_row: MakeRow) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    forth = [make_row(number) for number in range(24)]
    back = [make_row(number, run_id="run-b") for number in reversed(range(24))]
    processes = [
        context.Process(target=_run, args=(folder_store.uri, run_id, rows, start))
        for run_id, rows in (("run-a", forth), ("run-b", back))
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    _one_row_per_job(folder_store, jobs=24)


def test_four_threads_append_one_sheet(folder_store: Store, make_row: MakeRow) -> None:
    start = threading.Barrier(4)
    threads = [
        threading.Thread(
            target=_run,
            args=(folder_store.uri, f"run-{k}", [make_row(n, run_id=f"run-{k}") for n in range(12)], start),
        )
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _one_row_per_job(folder_store, jobs=12)
