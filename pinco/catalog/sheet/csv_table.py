"""CSV files as spreadsheets write them, read into cells of text. Nothing is converted to a number, so that SKUs keep
their zeros."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pinco.catalog.sheet.problems import Problems

MAX_TABLE = 512 * 2**20
"""Bytes of a sheet's or a catalog's file; larger ones are not read."""

DELIMITERS = (",", ";", "\t")

_EXCEL_TEXT = re.compile(r'="((?:[^"]|"")*)"')
"""`="007"`: how people make Excel keep the zeros."""


@dataclass(frozen=True)
class TableRow:
    """One row.

    Attributes:
        number: As a spreadsheet shows it; the header is row 1.
        cells: The filled cells by column, trimmed and never empty.
    """

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A header and the rows under it that are not blank."""

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]


def read_csv(data: bytes, problems: Problems, known: Iterable[str]) -> Table:
    """Read CSV with a header row.

    Text is UTF-8 with or without a byte order mark, UTF-16 with one, or else Windows-1252 (with a warning). The
    delimiter is the one of comma, semicolon and tab with which the header has most known columns, or the one that a
    first line `sep=;` names.

    Args:
        data: The file.
        problems: Where errors and warnings are added.
        known: Names of columns, to find the delimiter by.

    Returns:
        The table, empty where the file cannot be read.
    """
    text = _decode(data, problems)
    if text is None:
        return Table((), ())
    first, _, rest = text.partition("\n")
    named = re.fullmatch(r"sep=(.)", first.strip("\r "), re.IGNORECASE)
    delimiter = named.group(1) if named else _delimiter(text, {name.casefold() for name in known})
    # A spreadsheet does not show the line `sep=;` and does not count it.
    records = _records(rest if named else text, delimiter, problems)
    if not records:
        problems.error("the file has no header row", hint="Put the column names into the first row.")
        return Table((), ())
    (header_row, header), *body = records
    columns = [_clean(name) for name in header]
    while columns and not columns[-1]:
        columns.pop()
    for name in sorted({name for name in columns if name and columns.count(name) > 1}):
        problems.error("this column occurs twice", row=header_row, column=name, hint="Keep one of the two.")
    rows = []
    for number, record in body:
        cells = [_clean(cell) for cell in record]
        if any(cells[len(columns) :]):
            problems.error(
                f"there are {len(cells)} cells under {len(columns)} columns",
                row=number,
                value=next(cell for cell in cells[len(columns) :] if cell),
                hint=f"Put a text that contains {_name_of(delimiter)} between double quotes.",
            )
        filled = {name: cell for name, cell in zip(columns, cells, strict=False) if name and cell}
        if filled:
            rows.append(TableRow(number, filled))
        nameless = [cell for name, cell in zip(columns, cells, strict=False) if not name and cell]
        if nameless:
            problems.error("this cell is under a column without a name", row=number, value=nameless[0])
    return Table(tuple(name for name in columns if name), tuple(rows))


def _decode(data: bytes, problems: Problems) -> str | None:
    if data.startswith(b"PK\x03\x04"):
        problems.error("this is a workbook or a zip archive, not a CSV file", hint="Save the sheet as 'CSV UTF-8'.")
        return None
    try:
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = data.decode("utf-16", errors="replace") if wide else data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError as error:
            problems.error(
                f"byte {error.start} is neither UTF-8 nor Windows-1252 text", hint="Save the sheet as 'CSV UTF-8'."
            )
            return None
        problems.warn(
            "the file is not UTF-8 and was read as Windows-1252 (cp1252)",
            hint="Check accents and quotes in the prompts, or save the sheet as 'CSV UTF-8'.",
        )
    if "\0" in text:
        problems.error("this is not a text file", hint="Save the sheet as 'CSV UTF-8'.")
        return None
    return text


def _delimiter(text: str, known: set[str]) -> str:
    def fit(delimiter: str) -> tuple[int, int]:
        try:
            header = next(csv.reader(io.StringIO(text), delimiter=delimiter), [])
        except csv.Error:
            return (0, 0)
        names = [_clean(name).casefold() for name in header]
        return sum(name.split(":")[0] in known for name in names), len(names)

    return max(DELIMITERS, key=fit)


def _records(text: str, delimiter: str, problems: Problems) -> list[tuple[int, list[str]]]:
    """The records with their numbers; blank ones are left out but counted."""
    records: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        for number, record in enumerate(reader, start=1):
            if any(cell.strip() for cell in record):
                records.append((number, record))
    except csv.Error as error:
        problems.error(
            f"the file cannot be read as CSV from this row on ({error})",
            row=number + 1,
            hint='Look for a double quote that is not closed; a quote inside a quoted text is written "".',
        )
    return records


def _clean(cell: str) -> str:
    excel = _EXCEL_TEXT.fullmatch(cell.strip())
    text = excel.group(1).replace('""', '"') if excel else cell
    return text.replace("\u00a0", " ").replace("\ufeff", "").strip()


def _name_of(delimiter: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab"}.get(delimiter, repr(delimiter))
