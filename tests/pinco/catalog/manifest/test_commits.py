from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pinco.catalog.manifest.commits import (
    Commit,
    CommitConflictError,
    CommitLog,
    DamagedLogError,
    commit,
    commit_key,
    done_jobs,
    read_commits,
)  # fmt: skip
from pinco.catalog.manifest.parts import DamagedPartError, write_part
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.store.access import open_store
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]


def _commit(log: CommitLog, run_id: str, batch: int, rows: list[Row], base: int = 0) -> Commit:
    return log.commit(run_id=run_id, batch=batch, parts=[write_part(log.store, run_id, batch, rows)], base=base)


def test_a_commit_makes_rows_visible(store: Store, make_row: MakeRow) -> None:
    log = CommitLog(store)
    part = write_part(store, "run-a", 0, [make_row(0), make_row(1, "failed")])
    assert read_rows(store) == []
    record = log.commit(run_id="run-a", batch=0, parts=[part], base=0)
    assert (record.seq, record.parent, record.parts, record.dropped, record.rows) == (1, None, (part,), 0, 2)
    assert read_rows(store) == [make_row(0), make_row(1, "failed")]
    assert done_jobs(store) == {make_row(0).job_id}
    assert log.states[make_row(1).job_id].settled


def test_the_commit_object_is_the_documented_one(folder_store: Store, make_row: MakeRow) -> None:
    part = write_part(folder_store, "run-a", 0, [make_row(0)])
    record = commit(folder_store, run_id="run-a", batch=0, parts=[part], base=0)
    written = json.loads(folder_store.get("_commits/000000000001.json"))
    assert written == {
        "seq": 1,
        "parent": None,
        "run_id": "run-a",
        "batch": 0,
        "parts": [{"key": part.key, "sha256": part.sha256, "rows": 1}],
        "submitted": [part.key],
        "dropped": 0,
        "created_at": record.created_at,
        "schema_version": 1,
    }
    assert Commit.from_bytes(record.to_bytes()) == record


def test_commits_are_a_chain(store: Store, make_row: MakeRow) -> None:
    log = CommitLog(store)
    for number in range(3):
        _commit(log, "run-a", number, [make_row(number)])
    assert [record.seq for record in read_commits(store)] == [1, 2, 3]
    again = CommitLog(store)
    assert (again.head, again.states) == (3, log.states)


def test_a_batch_said_twice_is_one_commit(store: Store, make_row: MakeRow) -> None:
    log = CommitLog(store)
    first = _commit(log, "run-a", 0, [make_row(0)])
    assert _commit(CommitLog(store), "run-a", 0, [make_row(0)]) == first
    assert len(read_commits(store)) == 1


def test_a_batch_number_cannot_be_used_for_something_else(folder_store: Store, make_row: MakeRow) -> None:
    log = CommitLog(folder_store)
    _commit(log, "run-a", 0, [make_row(0)])
    with pytest.raises(CommitConflictError, match="batch 0 of run run-a already"):
        _commit(log, "run-a", 0, [make_row(1)])


def test_the_second_run_drops_what_is_done_meanwhile(store: Store, make_row: MakeRow) -> None:
    a, b = CommitLog(store), CommitLog(store)
    _commit(a, "run-a", 0, [make_row(0), make_row(1, "failed")])
    record = _commit(b, "run-b", 0, [make_row(n, run_id="run-b") for n in range(3)])
    assert (record.seq, record.dropped, record.rows) == (2, 1, 2)
    assert record.parts[0].key not in record.submitted
    rows = {row.sku: (row.run_id, row.status) for row in read_rows(store)}
    assert rows == {"0000": ("run-a", "ok"), "0001": ("run-b", "ok"), "0002": ("run-b", "ok")}


def test_a_run_with_nothing_new_still_commits_its_batch(folder_store: Store, make_row: MakeRow) -> None:
    a, b = CommitLog(folder_store), CommitLog(folder_store)
    _commit(a, "run-a", 0, [make_row(0)])
    record = _commit(b, "run-b", 0, [make_row(0, run_id="run-b")])
    assert (record.parts, record.dropped) == ((), 1)
    assert _commit(b, "run-b", 0, [make_row(0, run_id="run-b")]) == record
    assert [row.run_id for row in read_rows(folder_store)] == ["run-a"]


def test_a_failure_never_hides_work_that_was_done_meanwhile(folder_store: Store, make_row: MakeRow) -> None:
    a, b = CommitLog(folder_store), CommitLog(folder_store)
    _commit(a, "run-a", 0, [make_row(0)])
    _commit(b, "run-b", 0, [make_row(0, "quarantined", "run-b")])
    assert [row.status for row in read_rows(folder_store)] == ["ok"]


def test_what_was_done_before_the_plan_can_be_made_again(folder_store: Store, make_row: MakeRow) -> None:
    log = CommitLog(folder_store)
    _commit(log, "run-a", 0, [make_row(0)])
    record = _commit(log, "run-b", 0, [make_row(0, run_id="run-b")], base=log.head)
    assert record.dropped == 0
    assert [row.run_id for row in read_rows(folder_store)] == ["run-b"]


def test_a_job_twice_in_one_batch_is_one_row(folder_store: Store, make_row: MakeRow) -> None:
    log = CommitLog(folder_store)
    parts = [
        write_part(folder_store, "run-a", 0, [make_row(0, "failed"), make_row(1), make_row(2, "failed")]),
        write_part(folder_store, "run-a", 0, [make_row(0), make_row(1, "failed"), make_row(2, "quarantined")]),
    ]
    record = log.commit(run_id="run-a", batch=0, parts=parts, base=0)
    assert (record.rows, record.dropped) == (3, 3)
    assert {row.sku: row.status for row in read_rows(folder_store)} == {
        "0000": "ok",
        "0001": "ok",
        "0002": "quarantined",
    }


def test_a_lost_answer_is_no_second_commit(folder_store: Store, make_row: MakeRow) -> None:
    """boto3 asks again when an answer is lost, and is then told that the key is taken: by ourselves."""
    log = CommitLog(folder_store)
    put = folder_store.put_if_absent

    def deaf(key: str, data: bytes, content_type: str = "") -> bool:
        written = put(key, data, content_type)
        return written and not key.startswith("_commits/")

    folder_store.put_if_absent = deaf  # type: ignore[method-assign]
    record = _commit(log, "run-a", 0, [make_row(0)])
    assert record.seq == 1
    assert len(read_commits(folder_store)) == 1


def test_a_missing_part_is_not_committed(folder_store: Store, make_row: MakeRow) -> None:
    log = CommitLog(folder_store)
    part = write_part(folder_store, "run-a", 0, [make_row(0)])
    for wrong in (replace(part, key="_parts/run-a/none.parquet"), replace(part, rows=2), replace(part, sha256="0")):
        with pytest.raises(DamagedPartError):
            log.commit(run_id="run-a", batch=0, parts=[wrong], base=0)
    assert read_commits(folder_store) == []


def test_a_gap_in_the_log_is_noticed(store: Store, make_row: MakeRow) -> None:
    log = CommitLog(store)
    for number in range(3):
        _commit(log, "run-a", number, [make_row(number)])
    store.delete(commit_key(2))
    with pytest.raises(DamagedLogError, match=r"000000000002\.json is missing, and later commits are there"):
        CommitLog(store)


def test_a_changed_commit_is_noticed(folder_store: Store, make_row: MakeRow) -> None:
    log = CommitLog(folder_store)
    first = _commit(log, "run-a", 0, [make_row(0)])
    _commit(log, "run-a", 1, [make_row(1)])
    folder_store.delete(commit_key(1))
    folder_store.put_if_absent(commit_key(1), replace(first, dropped=5).to_bytes())
    with pytest.raises(DamagedLogError, match="does not continue"):
        CommitLog(folder_store)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{}", "is not a commit"),
        (b"[]", "is not a commit"),
        (b"\xff", "is not a commit"),
        (b'{"schema_version": 999, "shards": []}', "newer Pinco"),
    ],
)
def test_what_is_no_commit_is_noticed(folder_store: Store, data: bytes, message: str) -> None:
    folder_store.put_if_absent(commit_key(1), data)
    for read in (CommitLog, read_commits):
        with pytest.raises(DamagedLogError, match=message):
            read(folder_store)


def test_a_listing_that_missed_a_commit_is_completed(
    folder_store: Store, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's listing is no snapshot: a file may be missed that was made while it went on."""
    log = CommitLog(folder_store)
    for number in range(3):
        _commit(log, "run-a", number, [make_row(number)])
    every = list(folder_store.list("_commits/"))
    monkeypatch.setattr(folder_store, "list", lambda prefix="": iter([every[0], every[2]]))
    assert CommitLog(folder_store).head == 3


def _run(uri: str, run_id: str, rows: list[Row], start: Any) -> None:
    store = open_store(uri)
    log = CommitLog(store)
    start.wait()
    for batch in range(0, len(rows), 4):
        _commit(log, run_id, batch // 4, rows[batch : batch + 4])


def _one_row_per_job(store: Store, jobs: int, batches: int) -> None:
    commits = read_commits(store)
    assert [record.seq for record in commits] == list(range(1, batches + 1))
    assert sum(record.rows for record in commits) == jobs, "no job was committed twice"
    rows = read_rows(store)
    assert len({row.job_id for row in rows}) == len(rows) == jobs


def test_two_processes_commit_one_sheet(folder_store: Store, make_row: MakeRow) -> None:
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
    _one_row_per_job(folder_store, jobs=24, batches=12)


def test_four_threads_commit_one_sheet(folder_store: Store, make_row: MakeRow) -> None:
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
    _one_row_per_job(folder_store, jobs=12, batches=12)
