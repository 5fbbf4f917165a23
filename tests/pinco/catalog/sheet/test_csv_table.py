from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.catalog.sheet.csv_table import DELIMITERS, Table, read_csv
from pinco.catalog.sheet.problems import Problems

KNOWN = ["sku", "prompt", "var"]
_cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff\u00a0\r")).filter(
    lambda cell: cell == cell.strip() and not cell.startswith("=")
)


def read(data: bytes) -> tuple[Table, Problems]:
    problems = Problems("sheet.csv")
    return read_csv(data, problems, KNOWN), problems


def read_cleanly(data: bytes) -> list[dict[str, str]]:
    table, problems = read(data)
    assert (problems.errors, problems.warnings) == ([], [])
    return [row.cells for row in table.rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_with_and_without_a_byte_order_mark(encoding: str) -> None:
    assert read_cleanly("sku,prompt\n007,„Café“ on marble".encode(encoding)) == [
        {"sku": "007", "prompt": "„Café“ on marble"}
    ]


def test_windows_text_is_read_with_a_warning() -> None:
    table, problems = read("sku,prompt\n1,“Café” €5".encode("cp1252"))
    assert table.rows[0].cells["prompt"] == "“Café” €5"
    assert [warning.message for warning in problems.warnings] == [
        "the file is not UTF-8 and was read as Windows-1252 (cp1252)"
    ]
    assert problems.errors == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"sku,prompt\n1,\x81\xff", "byte 13 is neither"),
        (b"PK\x03\x04rest", "a workbook or a zip archive"),
        (b"sku\0,prompt\n", "not a text file"),
        ("\ufeffsku,prompt\n1,a\0b\n".encode("utf-16-le"), "not a text file"),
        (b"", "no header row"),
        (b"\n\n ,\n", "no header row"),
    ],
)
def test_files_that_are_no_csv(data: bytes, message: str) -> None:
    table, problems = read(data)
    assert table == Table((), ())
    assert [message in error.message for error in problems.errors] == [True]
    assert problems.errors[0].suggestion


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_delimiters_are_found(delimiter: str) -> None:
    header, row = delimiter.join(["sku", "var:a,b;c", "prompt"]), delimiter.join(["1", '"x,y;z"', "p"])
    if delimiter != "\t":
        header = delimiter.join(["sku", '"var:a,b;c"', "prompt"])
    assert read_cleanly(f"{header}\r\n{row}\r\n".encode()) == [{"sku": "1", "var:a,b;c": "x,y;z", "prompt": "p"}]


def test_excels_own_line_names_the_delimiter() -> None:
    table, _ = read(b"sep=;\nsku;prompt\n1;a, b\n")
    assert [(row.number, row.cells) for row in table.rows] == [(2, {"sku": "1", "prompt": "a, b"})]


@given(
    st.sampled_from(DELIMITERS),
    st.lists(st.tuples(_cells, _cells).filter(any), min_size=1, max_size=5),
)
def test_written_tables_are_read_back(delimiter: str, rows: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([("sku", "prompt"), *rows])
    found = read_cleanly(text.getvalue().encode())
    assert found == [{name: cell for name, cell in zip(("sku", "prompt"), row, strict=True) if cell} for row in rows]


@given(st.binary())
def test_any_bytes_give_a_table_or_an_error(data: bytes) -> None:
    table, problems = read(data)
    assert table.columns or problems.errors


def test_nothing_is_converted_to_a_number() -> None:
    rows = read_cleanly(b'sku,prompt\n00042,1.0\n"=""0017""",x\n1E5,+1\n')
    assert [row["sku"] for row in rows] == ["00042", "0017", "1E5"]


def test_rows_are_counted_as_a_spreadsheet_shows_them() -> None:
    table, _ = read(b'sku,prompt\n1,"two\nlines"\n\n , \n2,x\n')
    assert [(row.number, row.cells["sku"]) for row in table.rows] == [(2, "1"), (5, "2")]


def test_white_space_is_trimmed_and_empty_cells_left_out() -> None:
    assert read_cleanly(" sku , prompt,\n 1 ,\u00a0x\u00a0,\n2,,\n".encode()) == [
        {"sku": "1", "prompt": "x"},
        {"sku": "2"},
    ]


def test_unquoted_delimiters_are_an_error() -> None:
    _, problems = read(b"sku,prompt\n1,red, green\n")
    (error,) = problems.errors
    assert (error.row, error.value, error.message) == (2, "green", "there are 3 cells under 2 columns")
    assert "between double quotes" in str(error.suggestion)


def test_cells_without_a_column_name_are_an_error() -> None:
    _, problems = read(b"sku,,prompt\n1,stray,x\n")
    assert [(error.row, error.value) for error in problems.errors] == [(2, "stray")]


def test_columns_that_occur_twice_are_an_error() -> None:
    _, problems = read(b"sku,prompt,sku\n1,x,2\n")
    assert [(error.row, error.column, error.message) for error in problems.errors] == [
        (1, "sku", "this column occurs twice")
    ]


def test_an_open_quote_is_reported_with_its_row_and_earlier_rows_are_kept() -> None:
    table, problems = read(b'sku,prompt\n1,x\n2,"open\n3,y\n')
    assert [row.cells["sku"] for row in table.rows] == ["1"]
    (error,) = problems.errors
    assert error.row == 3
    assert "double quote that is not closed" in str(error.suggestion)
