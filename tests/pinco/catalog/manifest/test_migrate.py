"""`golden/old_store` was written by the code that kept a log: three commits, and parts that none of them names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pinco.catalog.manifest import migrate as module
from pinco.catalog.manifest.connect import TABLE, ManifestError, OldManifestError
from pinco.catalog.manifest.history import history
from pinco.catalog.manifest.migrate import DamagedLogError, Migrated, migrate
from pinco.catalog.manifest.readers import find_generation, job_states, read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import open_store
from pinco.catalog.store.base import Store

GOLDEN = Path(__file__).with_name("golden") / "old_store"
VISIBLE = [("0002", "night-1", "quarantined"), ("0000", "night-2", "ok"), ("0001", "night-2", "ok")]


@pytest.fixture
def old(store: Store) -> Store:
    """A copy of the old store, in a folder and on S3."""
    for path in sorted(GOLDEN.rglob("*")):
        if path.is_file():
            store.put_if_absent(path.relative_to(GOLDEN).as_posix(), path.read_bytes())
    return store


@pytest.fixture
def old_folder(tmp_path: Path) -> Store:
    shutil.copytree(GOLDEN, tmp_path / "old")
    return open_store(str(tmp_path / "old"))


def _visible(store: Store) -> list[tuple[str, str, str]]:
    return [(row.sku, row.run_id, row.status) for row in read_rows(ManifestTable(store))]


def test_an_old_store_is_converted_with_its_order_and_what_was_visible(old: Store) -> None:
    with pytest.raises(OldManifestError):
        ManifestTable(old)
    before = {info.key for info in old.list()}
    assert migrate(old) == Migrated(commits=3, rows=5)
    table = ManifestTable(old)
    assert _visible(old) == VISIBLE
    assert [row.sequence for row in read_rows(table)] == [-2, -1, -1]
    assert find_generation(table, "0101").run_id == "night-1", "superseded rows are there too"
    assert read_rows(table)[1].not_scored == ("extension",)
    assert {info.key for info in old.list()} > before, "nothing of the old manifest was removed"
    assert [(v.version, v.run, v.rows) for v in history(old)] == [(1, None, 0), (0, "migrated", 5)]


def test_converting_twice_is_converting_once(old: Store) -> None:
    migrate(old)
    assert migrate(old) is None
    assert _visible(old) == VISIBLE


def test_later_rows_are_newer_than_converted_ones(old_folder: Store) -> None:
    migrate(old_folder)
    table = ManifestTable(old_folder)
    jobs = [row.job_id for row in read_rows(table)]
    assert job_states(table, jobs).held == {jobs[0]}
    (again,) = [row for row in read_rows(table) if row.sku == "0000"]
    table.append([again], run_id="night-9", batch=1, base=table.version)
    assert [row.sku for row in read_rows(table)] == ["0002", "0001", "0000"]


def test_there_may_be_nothing_to_convert(store: Store, make_row: Callable[..., Row]) -> None:
    assert migrate(store) is None
    assert list(store.list()) == []
    ManifestTable(store).append([make_row(0)], run_id="run-a", batch=1, base=0)
    assert migrate(store) is None


def _change(store: Store, key: str, data: bytes | None) -> None:
    store.delete(key)
    if data is not None:
        store.put_if_absent(key, data)


@pytest.mark.parametrize(
    ("number", "data", "message"),
    [
        (2, None, r"000000000002\.json is missing, and later commits are there"),
        (2, b"{}", "is not a commit of the old manifest"),
        (2, b"\xff", "is not a commit of the old manifest"),
        (1, b'{"seq": 1, "parent": null, "parts": []}', "does not continue the commit before it"),
    ],
)
def test_a_damaged_log_is_not_converted(old_folder: Store, number: int, data: bytes | None, message: str) -> None:
    _change(old_folder, f"_commits/{number:012d}.json", data)
    with pytest.raises(DamagedLogError, match=message):
        migrate(old_folder)
    assert list(old_folder.list(f"{TABLE}/")) == []


def test_a_part_that_was_changed_is_not_converted(old_folder: Store) -> None:
    key = next(info.key for info in old_folder.list("_parts/night-2/"))
    _change(old_folder, key, old_folder.get(key) + b" ")
    with pytest.raises(DamagedLogError, match="was changed after it was committed"):
        migrate(old_folder)
    with pytest.raises(OldManifestError):
        ManifestTable(old_folder)


def test_a_migration_that_dies_leaves_an_old_store(old_folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "write_deltalake", die)
    with pytest.raises(ManifestError, match="no space left"):
        migrate(old_folder)
    with pytest.raises(OldManifestError):
        ManifestTable(old_folder)
    monkeypatch.undo()
    assert migrate(old_folder) is not None
    assert _visible(old_folder) == VISIBLE
