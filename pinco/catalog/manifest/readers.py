"""Reading the manifest: the visible rows, the rows of a run, one generation, what is known of jobs.

Of the rows of one job the last one with an image is visible; where no row has one, the last one. An image that failed
to be made again stays what it was. Addresses of images are those of the store as it was opened: a store can be moved.
"""

from __future__ import annotations

import difflib
import os
import re
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pinco.catalog.delivery.images import IMAGES
from pinco.catalog.manifest.connect import TABLE, ManifestError, table_errors
from pinco.catalog.manifest.runs import require_run
from pinco.catalog.manifest.schema import DONE, SCHEMA, VERSION_KEY, Row, conform, to_rows
from pinco.catalog.manifest.table import ManifestTable
from pinco.errors import PincoError, first_line

_ID_DIGITS = 64
_ORDER = ("sequence", "row", "variant")
_PLACE = (*_ORDER, "job_id", "status")
"""Columns that decide which row of a job is visible, and where it stands."""

READ_AHEAD = {"batch_readahead": 4, "fragment_readahead": 2}
"""Few files at once: years of rows go through in a gigabyte of memory, and two cores are busy all the same."""


class UnknownSkuError(PincoError, LookupError):
    """No row is of this product."""

    code = "unknown_sku"


class UnknownGenerationError(PincoError, LookupError):
    """No row has this generation id, or several begin like it."""

    code = "unknown_generation"


@dataclass(frozen=True)
class JobStates:
    """What the manifest says of some jobs.

    Attributes:
        done: Jobs with an image: their visible row is `ok`, `review` or `rejected`.
        held: Jobs without one whose last row failed for good or is quarantined.
    """

    done: frozenset[str]
    held: frozenset[str]


def read_manifest(table: ManifestTable, *, run_id: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """The visible rows, in the order of appends and then of the sheet's rows.

    Args:
        table: The manifest.
        run_id: Only rows that this run made, and that no later run replaced; None = all. What a run failed to make
            again is among its rows, although the image from before is what is visible without `run_id`.
        columns: Only these, in this order; None = all.

    Raises:
        ManifestError: The table cannot be read.
    """
    wanted = list(SCHEMA.names) if columns is None else list(columns)
    needed = list(dict.fromkeys([*wanted, *_PLACE]))
    if run_id is None:
        return _visible(_read(table, needed)).select(wanted)
    mine = _visible(_read(table, needed, pc.field("run_id") == run_id))
    if mine.num_rows:
        first = pc.min(mine.column("sequence"))
        since = (pc.field("sequence") > first) & pc.field("job_id").isin(mine.column("job_id").combine_chunks())
        later = _read(table, ["job_id", "sequence", "status"], since)
        replaced = pc.or_(
            _is_older(mine, later.filter(_done(later))),
            pc.and_(pc.invert(_done(mine)), _is_older(mine, later)),  # a failure does not replace an image
        )
        mine = mine.filter(pc.invert(replaced))
    return mine.select(wanted)


def read_rows(table: ManifestTable, *, run_id: str | None = None) -> list[Row]:
    """`read_manifest` as rows."""
    return _rows(table, read_manifest(table, run_id=run_id))


def find_rows(
    table: ManifestTable,
    *,
    run_id: str | None = None,
    statuses: Collection[str] = (),
    skus: Collection[str] = (),
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The visible rows of a run, of some statuses and of some products; what is not given does not choose.

    `columns` are those of `read_manifest`, with `sku` and `status` among them.

    Raises:
        UnknownRunError: There is no such run.
        UnknownSkuError: The manifest has no row of such a product.
        ManifestError: The table cannot be read.
    """
    if run_id is not None:
        require_run(table, run_id)
    rows = read_manifest(table, run_id=run_id, columns=columns)
    for sku in skus:
        if not pc.any(pc.equal(rows.column("sku"), sku)).as_py():
            known = pc.unique(rows.column("sku")).to_pylist()
            close = difflib.get_close_matches(sku, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UnknownSkuError(f"{table.store.uri} has no row with the SKU {sku!r}.{hint}")
    if skus:
        rows = rows.filter(pc.is_in(rows.column("sku"), pa.array(skus, pa.string())))
    return rows.filter(pc.is_in(rows.column("status"), pa.array(statuses, pa.string()))) if statuses else rows


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
    visible = _visible(_read(table, ["transient", *_PLACE], asked))
    done = _done(visible)
    held = pc.and_(pc.invert(done), pc.invert(visible.column("transient")))
    return JobStates(*(frozenset(visible.filter(mask).column("job_id").to_pylist()) for mask in (done, held)))


@dataclass(frozen=True)
class Timing:
    """When an image was finished, by which run, and how many seconds making it took."""

    run_id: str
    created_at: datetime
    seconds: float


def recent_images(table: ManifestTable, images: int) -> list[Timing]:
    """The last images, at most so many, oldest first. Reads the newest files only."""
    if table.delta is None:
        return []
    with table_errors(table.store, table.delta):
        files = pa.table(table.delta.get_add_actions(flatten=True)).select(["num_records", "min.sequence"])
    since, rows = 0, 0
    for file in files.sort_by([("min.sequence", "descending")]).to_pylist():
        since, rows = file["min.sequence"] or 0, rows + (file["num_records"] or 0)
        if rows >= 2 * images:  # some of them may have failed
            break
    return _timings(table, pc.field("sequence") >= since)[-images:]


def run_began_with(table: ManifestTable, run_id: str) -> Timing | None:
    """The image of a run that was finished first."""
    return min(_timings(table, pc.field("run_id") == run_id), key=lambda image: image.created_at, default=None)


def _timings(table: ManifestTable, where: pc.Expression) -> list[Timing]:
    names = ["run_id", "created_at", "seconds"]
    made = _read(table, [*names, *_ORDER], pc.field("seconds").is_valid() & where)
    return [Timing(**row) for row in made.sort_by([(name, "ascending") for name in _ORDER]).select(names).to_pylist()]


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
        with table_errors(table.store, table.delta):
            rows = pa.table(table.delta.scan(predicate=same if len(generation_id) == _ID_DIGITS else begins).read_all())
        for row in sorted(_rows(table, _conform(table, rows)), key=lambda row: row.sequence or 0):
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
    with table_errors(table.store, table.delta):
        rows = dataset.to_table(there, filter=where, **READ_AHEAD)
    return _conform(table, rows, columns)


def _conform(table: ManifestTable, rows: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    """These rows in today's schema, with their images' addresses in the store as it was opened."""
    with _row_errors(table):
        rows = conform(rows.replace_schema_metadata({VERSION_KEY: str(table.schema_version).encode()}), columns)
    if "image_uri" not in rows.column_names:
        return rows
    place, folder = rows.column_names.index("image_uri"), table.store.uri_of(f"{IMAGES}x")[:-1]
    names = pc.replace_substring_regex(rows.column("image_uri"), r"^.*[/\\]", "")
    return rows.set_column(place, rows.field(place), pc.binary_join_element_wise(folder, names, ""))


def _rows(table: ManifestTable, rows: pa.Table) -> list[Row]:
    with _row_errors(table):
        return to_rows(rows)


@contextmanager
def _row_errors(table: ManifestTable) -> Iterator[None]:
    """Values that no row of ours has: another program wrote them, or they are damaged."""
    try:
        yield
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise ManifestError(
            f"{table.store.uri_of(TABLE)} holds a row that Pinco did not write: {first_line(error)}. "
            f"`pinco manifest history {table.store.uri}` shows who wrote; `--as-of` reads the manifest as it was before"
        ) from error


def _done(rows: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(rows.column("status"), pa.array(sorted(DONE)))


def _is_older(rows: pa.Table, others: pa.Table) -> pa.ChunkedArray:
    """For every row whether one of the others has its job and a higher sequence."""
    newest = others.select(["job_id", "sequence"]).group_by("job_id").aggregate([("sequence", "max")])
    places = pc.index_in(rows.column("job_id"), newest.column("job_id").combine_chunks())
    return pc.fill_null(pc.less(rows.column("sequence"), newest.column("sequence_max").take(places)), False)


def _visible(rows: pa.Table) -> pa.Table:
    """Of every job the visible row, in the order of sequences and then of the sheet's rows."""
    order = pc.sort_indices(rows, [(name, "ascending") for name in _ORDER]).to_numpy()
    # large: years of ids are more text than 32 bit offsets reach
    jobs = rows.column("job_id").cast(pa.large_string()).combine_chunks().dictionary_encode()
    last = np.empty(len(jobs.dictionary), np.int64)
    ordered, positions = jobs.indices.to_numpy()[order], np.arange(len(order))
    last[ordered] = positions  # of several positions numpy keeps the last
    made = _done(rows).to_numpy()[order]
    last[ordered[made]] = positions[made]
    return rows.take(pa.array(order[np.sort(last)]))
