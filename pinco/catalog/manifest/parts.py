"""Parts: small Parquet files of manifest rows, as workers write them. A part counts only once a commit names it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pinco.catalog.manifest.schema import Row, conform, to_table
from pinco.catalog.store.base import Store, StoreError

PARTS = "_parts/"


class DamagedPartError(StoreError):
    """A part is not what its name or its commit says."""

    code = "damaged_part"


@dataclass(frozen=True)
class Part:
    """A written part: its key, the sha256 of its bytes, and how many rows it has."""

    key: str
    sha256: str
    rows: int


def write_part(store: Store, run_id: str, batch: int, rows: Iterable[Row]) -> Part:
    """Write rows as one Parquet object at `_parts/{run_id}/{batch:08d}-{first 16 digits of its sha256}.parquet`.

    Written twice, the same rows are the same object. Nothing is visible before a commit.

    Raises:
        ValueError: there are no rows, or `run_id` cannot be part of a key.
    """
    return write_table(store, run_id, batch, to_table(rows))


def write_table(store: Store, run_id: str, batch: int, table: pa.Table) -> Part:
    """`write_part` for rows that are a table of the manifest's schema already."""
    if not table.num_rows:
        raise ValueError("a part needs at least one row")
    if not run_id or "/" in run_id or run_id.startswith("."):
        raise ValueError(f"{run_id!r} cannot be a run id: it names a folder in the store")
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"{PARTS}{run_id}/{batch:08d}-{sha256[:16]}.parquet"
    store.put_if_absent(key, data, "application/vnd.apache.parquet")
    return Part(key, sha256, table.num_rows)


def read_part(store: Store, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a part in today's schema, after checking its hash and its row count.

    Raises:
        DamagedPartError: it is missing, is not the part that was written, or cannot be read.
    """
    found, table = _read(store, part.key, columns)
    if found != part:
        raise DamagedPartError(
            f"{store.uri_of(part.key)}: {part.rows} rows with hash {part.sha256[:16]} were expected, "
            f"{found.rows} rows with hash {found.sha256[:16]} are there"
        )
    return table


def find_part(store: Store, key: str) -> tuple[Part, pa.Table]:
    """A part that no commit describes, checked against the hash in its name.

    Raises:
        DamagedPartError: it is not what its name says, or cannot be read.
    """
    part, table = _read(store, key, None)
    if not key.endswith(f"-{part.sha256[:16]}.parquet"):
        raise DamagedPartError(f"{store.uri_of(key)}: its content does not have the hash in its name")
    return part, table


def _read(store: Store, key: str, columns: Sequence[str] | None) -> tuple[Part, pa.Table]:
    try:
        data = store.get(key)
        file = pq.ParquetFile(pa.BufferReader(data))
        wanted = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        table = conform(file.read(columns=wanted), columns)
    except (StoreError, ValueError, pa.ArrowException) as error:
        raise DamagedPartError(f"{store.uri_of(key)} cannot be read as a part of the manifest: {error}") from error
    return Part(key, hashlib.sha256(data).hexdigest(), file.metadata.num_rows), table
