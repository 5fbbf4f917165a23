"""Parquet files read into cells of text, like CSV files; what they unpack to is limited, because a small file may hold
a large table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pinco.catalog.sheet.csv_table import Table, TableRow
from pinco.catalog.sheet.problems import Problems
from pinco.errors import first_line

MAX_ROWS = 20_000_000
MAX_CELL = 131_072
"""Bytes of a text; the limit of CSV files."""

MAX_CHARACTERS = 2**30
"""Of all cells together."""

_BATCH = 4096
_EXPORT = "Export the table again, or name a .csv file."


class _LimitError(Exception):
    """The table is larger than what is read."""


def read_parquet(data: bytes, problems: Problems) -> Table:
    """Read a table; numbers become text, and columns of other kinds are empty.

    Args:
        data: The file.
        problems: Where errors are added.

    Returns:
        The table, with rows numbered from 2 as in a sheet; empty where the file cannot be read.
    """
    try:
        return _read(data, problems)
    except _LimitError as error:
        problems.error(str(error), hint=_EXPORT)
    # pyarrow raises ArrowException, OSError, ValueError, UnicodeDecodeError, OverflowError, ... for damaged files.
    except Exception as error:
        problems.error(f"this is not a Parquet file, or it is damaged: {first_line(error)}", hint=_EXPORT)
    return Table((), ())


def _read(data: bytes, problems: Problems) -> Table:
    texts = [field.name for field in pq.read_schema(pa.BufferReader(data)) if _is_text(field.type)]
    # As dictionaries, so that a long text that stands in many rows is unpacked once, and measured before that.
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts, page_checksum_verification=True)
    if file.metadata.num_rows > MAX_ROWS:
        raise _LimitError(f"the table has {file.metadata.num_rows} rows; at most {MAX_ROWS} are read")
    columns = [str(name).strip() for name in file.schema_arrow.names]
    for name, count in Counter(columns).items():
        if count > 1:
            problems.error("this column occurs twice", row=1, column=name, hint="Keep one of the two.")
    for name, field in zip(columns, file.schema_arrow, strict=True):
        if name.casefold() == "sku" and pa.types.is_integer(field.type):
            problems.warn(
                "the SKUs are numbers, so leading zeros are lost", column=name, hint="Write the column as text."
            )
    return Table(tuple(columns), tuple(_rows(file, columns, problems)))


def _rows(file: pq.ParquetFile, columns: list[str], problems: Problems) -> Iterator[TableRow]:
    number, characters = 1, 0
    for batch in file.iter_batches(_BATCH, use_threads=False):
        values = [_values(column, name) for name, column in zip(columns, batch.columns, strict=True)]
        for cells in zip(*values, strict=True):
            number += 1
            filled = {name: text for name, text in zip(columns, cells, strict=True) if text}
            characters += sum(map(len, filled.values()))
            if characters > MAX_CHARACTERS:
                raise _LimitError(f"the table has more than {MAX_CHARACTERS} characters")
            for name, text in filled.items():
                if "\0" in text:
                    problems.error("this cell contains a NUL character", row=number, column=name, value=text)
            yield TableRow(number, filled)


def _values(column: pa.Array, name: str) -> list[str]:
    """A column's cells as text, "" for empty ones."""
    texts = column.dictionary if pa.types.is_dictionary(column.type) else column
    if _is_text(texts.type):
        longest = pc.max(pc.binary_length(texts)).as_py() or 0
        if longest > MAX_CELL:
            raise _LimitError(f"column {name}: a cell has {longest} bytes; at most {MAX_CELL} are read")
    elif not (pa.types.is_integer(texts.type) or pa.types.is_floating(texts.type) or pa.types.is_boolean(texts.type)):
        return [""] * len(column)
    return [_text(value) for value in column.to_pylist()]


def _text(value: Any) -> str:
    # NaN, which pandas writes for an empty cell, is not equal to itself
    return "" if value is None or value != value else str(value).strip()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
