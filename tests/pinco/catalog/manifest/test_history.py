from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pinco.catalog.manifest.connect import LOG
from pinco.catalog.manifest.history import UNREADABLE, history
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import compact
from pinco.catalog.store.base import Store


def test_every_version_says_who_and_how_many(store: Store, make_row: Callable[..., Row]) -> None:
    table = ManifestTable(store)
    table.append([make_row(0), make_row(1)], run_id="run-a", batch=1, base=0)
    table.append([make_row(1, run_id="run-b"), make_row(2, run_id="run-b")], run_id="run-b", batch=1, base=0)
    compact(table)
    versions = list(history(store))
    assert [(v.version, v.operation, v.run, v.batch, v.rows, v.dropped) for v in versions] == [
        (3, "OPTIMIZE", None, None, 0, 0),
        (2, "WRITE", "run-b", 1, 1, 1),
        (1, "WRITE", "run-a", 1, 2, 0),
        (0, "CREATE TABLE", None, None, 0, 0),
    ]
    assert all(datetime.now(UTC) - v.at < timedelta(minutes=5) for v in versions)


def test_it_reaches_back_as_far_as_the_log(folder_store: Store, make_row: Callable[..., Row]) -> None:
    assert list(history(folder_store)) == []
    table = ManifestTable(folder_store)
    for batch in (1, 2):
        table.append([make_row(batch)], run_id="run-a", batch=batch, base=0)
    assert table.delta is not None
    table.delta.create_checkpoint()
    for number in (0, 1):
        folder_store.delete(f"{LOG}{number:020d}.json")
    assert [version.version for version in history(folder_store)] == [2]


def test_a_damaged_entry_is_a_version_of_which_little_is_known(
    folder_store: Store, make_row: Callable[..., Row]
) -> None:
    table = ManifestTable(folder_store)
    for batch in (1, 2):
        table.append([make_row(batch)], run_id="run-a", batch=batch, base=0)
    for note in ("README", "notes.json"):
        folder_store.put_if_absent(f"{LOG}{note}", b"x")
    for damage in (b"\xff\xfe", b"{", b"[]", b'{"commitInfo": {}}', b'{"commitInfo": 5}', b""):
        folder_store.delete(f"{LOG}{1:020d}.json")
        folder_store.put_if_absent(f"{LOG}{1:020d}.json", damage)
        versions = list(history(folder_store))
        assert [(v.version, v.operation) for v in versions] == [(2, "WRITE"), (1, UNREADABLE), (0, "CREATE TABLE")]
