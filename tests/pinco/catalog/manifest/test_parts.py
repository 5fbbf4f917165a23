from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pinco.catalog.manifest.parts import DamagedPartError, find_part, read_part, write_part
from pinco.catalog.manifest.schema import Row, to_rows
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]


def test_a_part_reads_back(store: Store, make_row: MakeRow) -> None:
    rows = [make_row(number) for number in range(3)]
    part = write_part(store, "run-a", 5, rows)
    assert part.rows == 3
    assert part.key == f"_parts/run-a/00000005-{part.sha256[:16]}.parquet"
    assert to_rows(read_part(store, part)) == rows
    assert read_part(store, part, ["sku"]).column("sku").to_pylist() == ["0000", "0001", "0002"]
    assert find_part(store, part.key)[0] == part


def test_the_same_rows_are_the_same_part(store: Store, make_row: MakeRow) -> None:
    assert write_part(store, "run-a", 0, [make_row(1)]) == write_part(store, "run-a", 0, [make_row(1)])
    assert len(list(store.list("_parts/"))) == 1
    write_part(store, "run-a", 0, [make_row(2)])
    assert len(list(store.list("_parts/"))) == 2


def test_a_part_without_rows_is_refused(folder_store: Store) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        write_part(folder_store, "run-a", 0, [])


@pytest.mark.parametrize("run_id", ["", "a/b", "..", ".hidden"])
def test_run_ids_name_one_folder(folder_store: Store, make_row: MakeRow, run_id: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        write_part(folder_store, run_id, 0, [make_row(1)])


def test_another_content_is_noticed(folder_store: Store, make_row: MakeRow) -> None:
    part = write_part(folder_store, "run-a", 0, [make_row(1)])
    other = folder_store.get(write_part(folder_store, "run-a", 0, [make_row(2)]).key)
    folder_store.delete(part.key)
    with pytest.raises(DamagedPartError, match="no such file"):
        read_part(folder_store, part)
    folder_store.put_if_absent(part.key, other)
    with pytest.raises(DamagedPartError, match="were expected"):
        read_part(folder_store, part)
    with pytest.raises(DamagedPartError, match="the hash in its name"):
        find_part(folder_store, part.key)


def test_a_wrong_row_count_is_noticed(folder_store: Store, make_row: MakeRow) -> None:
    part = write_part(folder_store, "run-a", 0, [make_row(1)])
    with pytest.raises(DamagedPartError, match=r"2 rows .* were expected, 1 rows"):
        read_part(folder_store, replace(part, rows=2))


def test_half_a_part_is_noticed(folder_store: Store, make_row: MakeRow) -> None:
    part = write_part(folder_store, "run-a", 0, [make_row(1)])
    folder_store.put_if_absent("_parts/run-a/torn.parquet", folder_store.get(part.key)[:-100])
    with pytest.raises(DamagedPartError, match="cannot be read as a part"):
        find_part(folder_store, "_parts/run-a/torn.parquet")
