"""Which files of the manifest's table are damaged: of its log, and of its rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pinco.catalog.manifest.schema import SCHEMA
from pinco.catalog.store.base import ObjectNotFoundError, Store
from pinco.errors import first_line

_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.\d+\.\d+)?\.parquet")
LAST_CHECKPOINT = "_last_checkpoint"


@dataclass(frozen=True)
class DamagedFile:
    """A file of the table that is not as it was written.

    Attributes:
        key: In the store.
        reason: What is wrong with it.
        rows: How many rows of the manifest it held; 0 for a file of the log.
    """

    key: str
    reason: str
    rows: int = 0


@dataclass(frozen=True)
class DataFile:
    """A file of rows, as the log has it: its key, its size in bytes, and how many rows it holds, where that is said."""

    key: str
    size: int
    rows: int | None


def data_files(delta: DeltaTable, table: str) -> list[DataFile]:
    """The files of the version that is looked at; `table` is the prefix of their keys."""
    files = pa.table(delta.get_add_actions(flatten=True)).select(["path", "size_bytes", "num_records"]).to_pylist()
    found = [DataFile(f"{table}{file['path']}", file["size_bytes"], file["num_records"]) for file in files]
    return sorted(found, key=lambda file: file.key)


def entry_number(key: str) -> int | None:
    """The version that an entry of the log, or a checkpoint, stands for; None for any other file."""
    name = key.rpartition("/")[2]
    found = _ENTRY.fullmatch(name) or _CHECKPOINT.fullmatch(name)
    return int(found[1]) if found else None


def is_checkpoint(key: str) -> bool:
    """Whether this is a checkpoint of the log, or the file that names the last one."""
    name = key.rpartition("/")[2]
    return name == LAST_CHECKPOINT or _CHECKPOINT.fullmatch(name) is not None


def damaged_log_files(store: Store, log: str, *, newest: bool = False) -> Iterator[DamagedFile]:
    """Entries and checkpoints that cannot be read, newest first. Files that are neither are not looked at.

    Args:
        store: The table's store.
        log: The log's prefix.
        newest: Look only at what the newest version needs: back to the last sound checkpoint.
    """
    for info in reversed(list(store.list(log))):
        try:
            if entry_number(info.key) is None and not is_checkpoint(info.key):
                continue
            data = store.get(info.key)
            if info.key.endswith(".parquet"):
                pq.read_table(pa.BufferReader(data))
                if newest:
                    return
            else:
                entries = [json.loads(data)] if is_checkpoint(info.key) else list(map(json.loads, data.splitlines()))
                if not entries or not all(isinstance(entry, dict) for entry in entries):
                    raise ValueError("it holds no objects")
        except ObjectNotFoundError:  # removed meanwhile, for its age
            continue
        except (ValueError, OSError, RecursionError, pa.ArrowException) as error:
            yield DamagedFile(info.key, first_line(error))


def damaged_data_files(store: Store, delta: DeltaTable, table: str) -> Iterator[DamagedFile]:
    """Files of the version that is looked at that are gone, or cannot be read to their end, or hold something else.

    Args:
        store: The table's store.
        delta: The table.
        table: Its prefix.
    """
    for file in data_files(delta, table):
        try:
            _read_through(store.get(file.key), file.size, file.rows)
        except ObjectNotFoundError:
            yield DamagedFile(file.key, "it is gone", file.rows or 0)
        except (ValueError, OSError, pa.ArrowException) as error:
            yield DamagedFile(file.key, first_line(error), file.rows or 0)


def _read_through(data: bytes, size: int, rows: int | None) -> None:
    """Decode every value of a file, a row group at a time."""
    if len(data) != size:
        raise ValueError(f"it has {len(data)} bytes, and was written with {size}")
    file = pq.ParquetFile(pa.BufferReader(data))
    for column in file.schema_arrow:
        if column.name in SCHEMA.names and not _is_like(column.type, SCHEMA.field(column.name).type):
            raise ValueError(f"its column {column.name} is {column.type}, not {SCHEMA.field(column.name).type}")
    read = sum(_checked(file.read_row_group(group)) for group in range(file.num_row_groups))
    if rows is not None and read != rows:
        raise ValueError(f"it has {read} rows, and was written with {rows}")


def _checked(rows: pa.Table) -> int:
    rows.validate(full=True)
    return int(rows.num_rows)


def _is_like(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Equal but for the names of list elements and the width of offsets, which writers choose."""
    if pa.types.is_list(wanted):
        return (pa.types.is_list(found) or pa.types.is_large_list(found)) and _is_like(
            found.value_type, wanted.value_type
        )
    if pa.types.is_string(wanted):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    return bool(found == wanted)
