"""Reading the manifest: the visible rows, the rows of a run, one generation, what is known of jobs."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pinco.catalog.manifest.connect import table_errors
from pinco.catalog.manifest.schema import DONE, SCHEMA, VERSION_KEY, Row, conform, to_rows
from pinco.catalog.manifest.table import ManifestTable
from pinco.errors import PincoError

_ID_DIGITS = 64
_ORDER = ("sequence", "row", "variant")
_READ_AHEAD = {"batch_readahead": 4, "fragment_readahead": 2}
"""Few files at once: years of rows go through in a gigabyte of memory, and two cores are busy all the same."""


class UnknownGenerationError(PincoError, LookupError):
    """No row has this generation id, or several begin like it."""

    code = "unknown_generation"


@dataclass(frozen=True)
class JobStates:
    """What the manifest says of some jobs.

    Attributes:
        done: Jobs whose visible row is `ok`, `review` or `rejected`.
        held: Jobs whose visible row failed for good or is quarantined.
    """

    done: frozenset[str]
    held: frozenset[str]


def read_manifest(table: ManifestTable, *, run_id: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """The visible rows: of every job the one appended last, in the order of appends and then of the sheet's rows.

    Args:
        table: The manifest.
        run_id: Only rows that this run made; None = all.
        columns: Only these, in this order; None = all.

    Raises:
        ManifestError: The table cannot be read.
    """
    wanted = list(SCHEMA.names) if columns is None else list(columns)
    needed = list(dict.fromkeys([*wanted, "job_id", *_ORDER]))
    if run_id is None:
        return _latest(_read(table, needed)).select(wanted)
    mine = _latest(_read(table, needed, pc.field("run_id") == run_id))
    if mine.num_rows:
        jobs, first = mine.column("job_id"), pc.min(mine.column("sequence"))
        since = (pc.field("sequence") > first) & pc.field("job_id").isin(jobs.combine_chunks())
        newest = _read(table, ["job_id", "sequence"], since).group_by("job_id").aggregate([("sequence", "max")])
        later = newest.column("sequence_max").take(pc.index_in(jobs, newest.column("job_id").combine_chunks()))
        mine = mine.filter(pc.fill_null(pc.greater_equal(mine.column("sequence"), later), True))
    return mine.select(wanted)


def read_rows(table: ManifestTable, *, run_id: str | None = None) -> list[Row]:
    """`read_manifest` as rows."""
    return to_rows(read_manifest(table, run_id=run_id))


def job_states(table: ManifestTable, jobs: Collection[str]) -> JobStates:
    """What the visible rows say of these jobs.

    One pass over four columns; what other jobs have is passed over as it is read, so that memory does not grow with
    the history.

    Raises:
        ManifestError: The table cannot be read.
    """
    if not jobs:
        return JobStates(frozenset(), frozenset())
    asked = pc.field("job_id").isin(pa.array(jobs, pa.string()))
    latest = _latest(_read(table, ["job_id", "status", "transient", *_ORDER], asked))
    done = pc.is_in(latest.column("status"), pa.array(sorted(DONE)))
    held = pc.and_(pc.invert(done), pc.invert(latest.column("transient")))
    return JobStates(*(frozenset(latest.filter(mask).column("job_id").to_pylist()) for mask in (done, held)))


def recent_seconds(table: ManifestTable, images: int) -> list[float]:
    """How long the last images took, at most so many, oldest first. Reads the newest files only."""
    if table.delta is None:
        return []
    with table_errors(table.store):
        files = pa.table(table.delta.get_add_actions(flatten=True)).select(["num_records", "min.sequence"])
    since, rows = 0, 0
    for file in files.sort_by([("min.sequence", "descending")]).to_pylist():
        since, rows = file["min.sequence"], rows + file["num_records"]
        if rows >= 2 * images:  # some of them may have failed
            break
    made = pc.field("seconds").is_valid() & (pc.field("sequence") >= since)
    recent = _read(table, ["seconds", *_ORDER], made).sort_by([(name, "ascending") for name in _ORDER])
    seconds: list[float] = recent.column("seconds").to_pylist()
    return seconds[-images:]


def find_generation(table: ManifestTable, generation_id: str) -> Row:
    """The row of an image, by its generation id or the first digits of it; superseded rows are found too.

    Args:
        table: The manifest.
        generation_id: All 64 digits are found by the files' Bloom filters, fewer by reading one column.

    Raises:
        UnknownGenerationError: No row or more than one generation fits.
        ManifestError: The table cannot be read.
    """
    found: dict[str, Row] = {}
    if table.delta is not None and re.fullmatch(r"[0-9a-f]+", generation_id):
        same = f"generation_id = '{generation_id}'"
        begins = f"generation_id >= '{generation_id}' AND generation_id < '{generation_id}g'"  # g: the digit after f
        with table_errors(table.store):
            rows = pa.table(table.delta.scan(predicate=same if len(generation_id) == _ID_DIGITS else begins).read_all())
        for row in sorted(to_rows(_conform(table, rows)), key=lambda row: row.sequence or 0):
            found[str(row.generation_id)] = row
    if generation_id in found:
        return found[generation_id]
    if len(found) == 1:
        return next(iter(found.values()))
    uri = table.store.uri
    if not found:
        raise UnknownGenerationError(f"{uri}: no image has a generation id that begins with {generation_id!r}")
    raise UnknownGenerationError(f"{uri}: {len(found)} images begin with {generation_id!r}; give more digits")


def export_manifest(table: ManifestTable, out: str | Path, *, run_id: str | None = None) -> int:
    """Write the visible rows to one Parquet file that DuckDB, pandas and Spark can read. Returns the number of rows.

    The file is replaced in one step, so that who reads it meanwhile sees the old one or the new one.
    """
    visible = read_manifest(table, run_id=run_id)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        pq.write_table(visible, staged, compression="zstd")
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)
    return int(visible.num_rows)


def _read(table: ManifestTable, columns: Sequence[str], where: pc.Expression | None = None) -> pa.Table:
    """These columns of all rows that fit, superseded ones too, in today's schema and no particular order."""
    dataset = table.dataset()
    there = [name for name in columns if name in dataset.schema.names]
    with table_errors(table.store):
        return _conform(table, dataset.to_table(there, filter=where, **_READ_AHEAD), columns)


def _conform(table: ManifestTable, rows: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    return conform(rows.replace_schema_metadata({VERSION_KEY: str(table.schema_version).encode()}), columns)


def _latest(rows: pa.Table) -> pa.Table:
    """Of every job the row with the highest sequence, in the order of sequences and then of the sheet's rows."""
    order = pc.sort_indices(rows, [(name, "ascending") for name in _ORDER]).to_numpy()
    # large: years of ids are more text than 32 bit offsets reach
    jobs = rows.column("job_id").cast(pa.large_string()).combine_chunks().dictionary_encode()
    last = np.empty(len(jobs.dictionary), np.int64)
    last[jobs.indices.to_numpy()[order]] = np.arange(len(order))  # of several positions numpy keeps the last
    return rows.take(pa.array(order[np.sort(last)]))
