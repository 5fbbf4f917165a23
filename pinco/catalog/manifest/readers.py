"""Reading the manifest: always by way of the commits, never by listing what lies in the store."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pinco.catalog.manifest.commits import Commit, read_commits
from pinco.catalog.manifest.parts import Part, read_part
from pinco.catalog.manifest.schema import SCHEMA, Row, take_rows, to_rows
from pinco.catalog.store.base import Store
from pinco.errors import PincoError

_READERS = 8


class UnknownGenerationError(PincoError, LookupError):
    """No committed row has this generation id, or several begin like it."""

    code = "unknown_generation"


def read_manifest(store: Store, *, run_id: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """The visible rows: of every job the one committed last, in the order of commits and then of the sheet's rows.

    run_id: only rows that this run made. columns: only these, in this order; None = all.

    Raises:
        StoreError: the log or a part cannot be read, or is damaged.
    """
    wanted = list(SCHEMA.names) if columns is None else list(columns)
    needed = list(dict.fromkeys([*wanted, "job_id", "run_id"]))
    tables = [table for _, table in _parts_newest_first(store, read_commits(store), needed)]
    seen: set[str] = set()
    kept: list[pa.Table] = []
    for table in tables:
        jobs = table.column("job_id").to_pylist()
        fresh = [index for index, job in enumerate(jobs) if job not in seen]
        seen.update(jobs)
        kept.append(table if len(fresh) == len(jobs) else take_rows(table, fresh))
    schema = pa.schema([SCHEMA.field(name) for name in needed], metadata=SCHEMA.metadata)
    visible = pa.concat_tables(reversed(kept)) if kept else schema.empty_table()
    if run_id is not None:
        visible = visible.filter(pc.equal(visible.column("run_id"), run_id))
    return visible.select(wanted)


def read_rows(store: Store, *, run_id: str | None = None) -> list[Row]:
    """`read_manifest` as rows."""
    return to_rows(read_manifest(store, run_id=run_id))


def find_generation(store: Store, generation_id: str) -> Row:
    """The row of an image, by its generation id or the first digits of it; superseded rows are found too.

    Raises:
        UnknownGenerationError: no row or more than one generation fits.
    """
    found: dict[str, Row] = {}
    for _, table in _parts_newest_first(store, read_commits(store), list(SCHEMA.names)):
        ids = table.column("generation_id")
        for row in to_rows(table.filter(pc.fill_null(pc.starts_with(ids, generation_id), False))):
            found.setdefault(str(row.generation_id), row)
    if generation_id in found:
        return found[generation_id]
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise UnknownGenerationError(f"{store.uri}: no image has a generation id that begins with {generation_id!r}")
    raise UnknownGenerationError(f"{store.uri}: {len(found)} images begin with {generation_id!r}; give more digits")


def export_manifest(store: Store, out: str | Path, *, run_id: str | None = None) -> int:
    """Write the visible rows to one Parquet file that DuckDB, pandas and Spark can read. Returns the number of rows.

    The file is replaced in one step, so that who reads it meanwhile sees the old one or the new one.
    """
    table = read_manifest(store, run_id=run_id)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        pq.write_table(table, staged, compression="zstd")
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)
    return int(table.num_rows)


def _parts_newest_first(
    store: Store, commits: Sequence[Commit], columns: Sequence[str]
) -> Iterator[tuple[Part, pa.Table]]:
    parts = [part for record in reversed(commits) for part in reversed(record.parts)]
    with ThreadPoolExecutor(_READERS) as pool:
        yield from zip(parts, pool.map(lambda part: read_part(store, part, columns), parts), strict=True)
