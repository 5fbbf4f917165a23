from __future__ import annotations

import datetime
import io
import resource
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinco.catalog.photos import parquet_table
from pinco.catalog.photos.parquet_table import MAX_CELL, read_parquet
from pinco.catalog.sheet.csv_table import Table
from pinco.catalog.sheet.problems import Problems


def written(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def read(data: bytes) -> tuple[Table, list[str]]:
    problems = Problems("c.parquet")
    table = read_parquet(data, problems)
    return table, [str(error) for error in problems.errors]


def test_cells_become_text() -> None:
    day = datetime.date(2026, 1, 2)
    columns = {
        "sku ": ["007", None],
        "n": [1, None],
        "x": [9.5, float("nan")],
        "day": [day, None],
        "flag": [True, None],
    }
    table, errors = read(written(pa.table(columns)))
    assert errors == []
    assert table.columns == ("sku", "n", "x", "day", "flag")
    assert [(row.number, row.cells) for row in table.rows] == [
        (2, {"sku": "007", "n": "1", "x": "9.5", "flag": "True"}),
        (3, {}),
    ]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_every_kind_of_text_is_read(kind: pa.DataType) -> None:
    table, errors = read(written(pa.table({"sku": pa.array(["a", "b", "a"]).cast(kind)})))
    assert errors == []
    assert [row.cells["sku"] for row in table.rows] == ["a", "b", "a"]


def test_damage_is_an_error_that_names_the_file() -> None:
    data = bytearray(written(pa.table({"sku": ["a"] * 100, "image": ["b"] * 100})))
    for broken in (b"", data[:-5], b"PAR1" + bytes(40) + b"PAR1", data[:40] + bytes(40) + data[80:]):
        table, (error,) = read(bytes(broken))
        assert table == Table((), ())
        assert error.startswith("c.parquet: this is not a Parquet file, or it is damaged")


def test_text_that_is_not_utf_8_is_damage() -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    assert "damaged" in read(written(pa.table({"sku": bad})))[1][0]


def test_a_column_that_occurs_twice_is_an_error() -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["sku", "sku "])
    assert "column sku: this column occurs twice" in read(written(table))[1][0]


def test_a_nul_character_is_an_error() -> None:
    assert "row 3, column image: this cell contains a NUL" in read(written(pa.table({"image": ["a", "b\0"]})))[1][0]


def test_a_small_file_that_unpacks_to_a_huge_table_is_refused_before_that() -> None:
    """A text of 20 MB stands once in the file and in 100,000 rows: 2 TB."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 20_000_000]))
    data = written(pa.table({"sku": column}), compression="zstd", dictionary_pagesize_limit=2**30)
    assert len(data) < 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table, (error,) = read(data)
    assert table == Table((), ())
    assert f"a cell has 20000000 bytes; at most {MAX_CELL} are read" in error
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000, "kB"


@pytest.mark.parametrize(("limit", "message"), [("MAX_ROWS", "has 100 rows"), ("MAX_CHARACTERS", "characters")])
def test_rows_and_characters_are_limited(monkeypatch: pytest.MonkeyPatch, limit: str, message: str) -> None:
    monkeypatch.setattr(parquet_table, limit, 50)
    assert message in read(written(pa.table({"sku": ["ab"] * 100})))[1][0]
