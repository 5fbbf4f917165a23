from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pinco.catalog.manifest.connect import LOG, TABLE, ManifestError
from pinco.catalog.manifest.damage import damaged_data_files, damaged_log_files, data_files, entry_number, is_checkpoint
from pinco.catalog.manifest.readers import find_generation, job_states, read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import compact
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]


@pytest.fixture
def table(folder_store: Store, make_row: MakeRow) -> ManifestTable:
    """Two files of three rows each, and no checkpoint."""
    table = ManifestTable(folder_store)
    for run in range(2):
        rows = [make_row(3 * run + number) for number in range(3)]
        table.append(rows, run_id=f"run-{run}", batch=1, base=table.version)
    return table


def _flip(store: Store, key: str, at: float = 0.5) -> None:
    path = Path(store.uri_of(key))
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 0xFF
    path.write_bytes(data)


def test_a_sound_table_has_no_damaged_files(table: ManifestTable) -> None:
    compact(table)
    assert table.delta is not None
    assert list(damaged_log_files(table.store, LOG)) == []
    assert list(damaged_data_files(table.store, table.delta, f"{TABLE}/")) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "another"])
def test_a_damaged_file_of_rows_is_named_with_what_it_held(table: ManifestTable, damage: str) -> None:
    assert table.delta is not None
    first, second = (Path(table.store.uri_of(file.key)) for file in data_files(table.delta, f"{TABLE}/"))
    if damage == "flipped":
        _flip(table.store, f"{TABLE}/{second.name}", 0.4)
    elif damage == "cut":
        second.write_bytes(second.read_bytes()[:-20])
    elif damage == "gone":
        second.unlink()
    else:
        second.write_bytes(first.read_bytes()[:-4] + b"PAR0")
    (found,) = damaged_data_files(table.store, table.delta, f"{TABLE}/")
    assert (found.key, found.rows) == (f"{TABLE}/{second.name}", 3)
    assert found.reason


def test_readers_name_the_damaged_file_and_the_way_out(table: ManifestTable, make_row: MakeRow) -> None:
    assert table.delta is not None
    key = data_files(table.delta, f"{TABLE}/")[0].key
    Path(table.store.uri_of(key)).write_bytes(b"garbage")
    row = make_row(0)
    for read in (
        lambda: read_rows(table),
        lambda: job_states(table, [row.job_id]),
        lambda: find_generation(table, str(row.generation_id)),
        lambda: find_generation(table, str(row.generation_id)[:8]),
    ):
        with pytest.raises(ManifestError, match=rf"{key} is damaged, .*`pinco check {table.store.uri}`"):
            read()


def test_a_damaged_entry_of_the_log_is_named(table: ManifestTable) -> None:
    _flip(table.store, f"{LOG}{2:020d}.json", 0.01)
    assert [file.key for file in damaged_log_files(table.store, LOG)] == [f"{LOG}{2:020d}.json"]
    with pytest.raises(ManifestError, match=rf"{2:020d}\.json is damaged"):
        ManifestTable(table.store)


def test_only_what_the_newest_version_needs_is_looked_at_when_asked(table: ManifestTable) -> None:
    compact(table)
    _flip(table.store, f"{LOG}{1:020d}.json", 0.01)
    assert list(damaged_log_files(table.store, LOG, newest=True)) == []
    assert len(list(damaged_log_files(table.store, LOG))) == 1


@pytest.mark.parametrize("name", ["README", "notes.json", "00000000000000000001.json.bak", "x.parquet"])
def test_files_of_others_are_no_damage(table: ManifestTable, make_row: MakeRow, name: str) -> None:
    for prefix in (LOG, f"{TABLE}/"):
        table.store.put_if_absent(f"{prefix}{name}", b"not ours")
    assert list(damaged_log_files(table.store, LOG)) == []
    again = ManifestTable(table.store)
    again.append([make_row(9)], run_id="run-n", batch=1, base=again.version)
    assert len(read_rows(again)) == 7


def test_names_in_a_log() -> None:
    assert entry_number(f"{LOG}{42:020d}.json") == entry_number(f"{LOG}{42:020d}.checkpoint.parquet") == 42
    assert entry_number(f"{LOG}{1:020d}.{9:020d}.compacted.json") is None
    assert is_checkpoint(f"{LOG}_last_checkpoint") and not is_checkpoint(f"{LOG}{42:020d}.json")
