"""The manifest: a Delta table in the store, opened once per run, and the way to add rows to it.

Rows are appended and never changed. A row carries the table's version that it came with, its `sequence`; of several
rows of one job the one with the highest sequence is visible among those with an image, or where none has one, among
all; also after compaction has put old and new rows into one file.

An append is tried for exactly the next version. Who loses the race for it looks at what was added meanwhile, leaves out
the jobs that are done by now, and tries the version after that. (run id, batch number) is recorded with the append, so
that a batch handed in twice is appended once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import pyarrow.compute as pc
import pyarrow.dataset as pads
from deltalake import CommitProperties, DeltaTable, Field, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pinco.catalog.manifest.connect import (
    TABLE,
    ManifestError,
    is_cut_short,
    open_delta,
    read_whole,
    said_by,
    sync_version,
    table_errors,
)
from pinco.catalog.manifest.history import NOTE, history
from pinco.catalog.manifest.schema import DONE, SCHEMA, SCHEMA_VERSION, VERSION_KEY, Row, to_table, with_sequence
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess
from pinco.catalog.store.base import Store
from pinco.errors import first_line

VERSION_PROPERTY = VERSION_KEY.decode()
CONFIGURATION = {
    # Statistics only where a reader can skip files by them; prompts and hashes would fill the log.
    "delta.dataSkippingStatsColumns": "run_id,status,sequence,created_at",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}
OUR_CONFIGURATION = {VERSION_PROPERTY: str(SCHEMA_VERSION)}
_FIRST_VERSION = 2  # of tables; what a migration wrote that died before it could say so
_APPENDED = WriterProperties(compression="ZSTD", compression_level=1)
_TRIES = 200
_LONGEST_WAIT = 0.5  # seconds


@dataclass(frozen=True)
class Appended:
    """What became of a batch.

    Attributes:
        version: The table's version afterwards.
        rows: How many rows became visible.
        dropped: How many were left out, because another run had done their jobs meanwhile or the batch had them twice.
    """

    version: int
    rows: int
    dropped: int


class ManifestTable:
    """The manifest of one store. For one thread at a time.

    Attributes:
        store: The store that the table lies in.
    """

    def __init__(self, store: Store, *, as_of: int | datetime | None = None) -> None:
        """Open the manifest, if there is one; the first append makes it.

        Args:
            store: The store that it lies in.
            as_of: An earlier version, or a time, to read the manifest as it was then; None = as it is.

        Raises:
            OldManifestError: It has the format of earlier versions and is to be converted.
            ManifestError: It cannot be read, or a newer Pinco wrote it, or it is not as old as `as_of`.
        """
        self.store = store
        self._options = store.object_store_options()
        self._delta = open_delta(store, self._options)
        self._done: set[str] = set()  # jobs done by versions after `_base`, up to `_looked`
        self._base = self._looked = 0
        if self._delta is not None:
            self._check_schema(self._delta)
            if as_of is not None:
                with table_errors(store):
                    read_whole(partial(self._delta.load_as_version, as_of))

    @property
    def delta(self) -> DeltaTable | None:
        """The table as its library knows it; None while there is none."""
        return self._delta

    @property
    def version(self) -> int:
        """The version that is looked at; 0, that of an empty table, while there is none."""
        return 0 if self._delta is None else self._delta.version()

    @property
    def schema_version(self) -> int:
        """The manifest version that the table was written with."""
        if self._delta is None:
            return SCHEMA_VERSION
        return int(self._delta.metadata().configuration.get(VERSION_PROPERTY, _FIRST_VERSION))

    def refresh(self) -> None:
        """Look at the newest version.

        Raises:
            ManifestError: It cannot be read.
        """
        options = self.store.object_store_options()
        if self._delta is None or options != self._options:
            self._options, self._delta = options, open_delta(self.store, options)
        else:
            with table_errors(self.store):
                read_whole(self._delta.update_incremental)

    def dataset(self) -> pads.Dataset:
        """The rows of the version that is looked at, superseded ones too, as an Arrow dataset."""
        if self._delta is None:
            return pads.dataset(SCHEMA.empty_table())
        with table_errors(self.store):
            return self._delta.to_pyarrow_dataset()

    def append(self, rows: Sequence[Row], *, run_id: str, batch: int, base: int) -> Appended:
        """Make rows visible, in one step.

        A row is left out when its job is done by a version after `base`, and when another row of the same job is in
        `rows` (one that is done is kept before one that is not). Failed rows never replace work that was done
        meanwhile.

        Args:
            rows: Finished rows.
            run_id: The run that hands them in.
            batch: Number of the batch, rising within the run; a batch that is in the table is not appended again.
            base: `version` at the time the run was planned: what was done by then and is in `rows` all the same was
                asked for again.

        Raises:
            ManifestError: The table cannot be written.
        """
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(_BehindError),
                wait=wait_random_exponential(multiplier=0.005, max=_LONGEST_WAIT),
                stop=stop_after_attempt(_TRIES),
            ):
                with attempt:
                    if attempt.retry_state.attempt_number > 1:
                        self.refresh()  # after the wait: what was looked at before it is old already
                    return self._try_append(rows, run_id, batch, base)
        except RetryError as error:
            raise ManifestError(
                f"{self.store.uri_of(TABLE)}: other writers were faster {_TRIES} times; run the sheet again later "
                f"({first_line(error.last_attempt.exception() or error)})"
            ) from error
        raise AssertionError("the loop returns or raises")

    def _try_append(self, rows: Sequence[Row], run_id: str, batch: int, base: int) -> Appended:
        delta = self._writable()
        if self._holds(delta, run_id, batch):
            return self._appended_before(delta, run_id, batch, rows)
        kept = self._undone(rows, base)
        if not kept:
            return Appended(delta.version(), 0, len(rows))
        version = delta.version() + 1
        note = {"run": run_id, "batch": batch, "rows": len(kept), "dropped": len(rows) - len(kept)}
        try:
            write_deltalake(
                delta,
                with_sequence(to_table(kept), version),
                mode="append",
                writer_properties=_APPENDED,
                commit_properties=CommitProperties(
                    custom_metadata={NOTE: note},
                    max_commit_retries=0,  # a retry by the library would append blindly, and with a wrong sequence
                    app_transactions=[Transaction(run_id, batch)],
                ),
            )
        except (DeltaError, OSError) as error:
            # Another writer was faster, or this write did happen and its answer was lost: the next look tells.
            if isinstance(error, CommitFailedError) or is_cut_short(error):
                raise _BehindError(said_by(error)) from error
            self.refresh()
            if self._holds(self._writable(), run_id, batch):
                raise _BehindError from error
            raise ManifestError(f"{self.store.uri_of(TABLE)} cannot be written: {said_by(error)}") from error
        sync_version(self.store, version)
        self._done.update(row.job_id for row in kept if row.status in DONE)
        self._looked = version
        return Appended(version, len(kept), len(rows) - len(kept))

    def _undone(self, rows: Sequence[Row], base: int) -> list[Row]:
        self._look_after(base)
        chosen: dict[str, Row] = {}
        for row in rows:
            if row.job_id in self._done:
                continue
            if row.job_id not in chosen or chosen[row.job_id].status not in DONE:
                chosen[row.job_id] = row
        return list(chosen.values())

    def _look_after(self, base: int) -> None:
        """Know the jobs that are done by versions after `base`. Reads only files with rows that were not seen yet."""
        if base != self._base:
            self._done.clear()
            self._base = self._looked = base
        if self.version > self._looked:
            added = (pc.field("sequence") > self._looked) & pc.field("status").isin(sorted(DONE))
            with table_errors(self.store, self._delta):
                self._done.update(self.dataset().to_table(["job_id"], filter=added).column("job_id").to_pylist())
            self._looked = self.version

    def _holds(self, delta: DeltaTable, run_id: str, batch: int) -> bool:
        with table_errors(self.store):
            last = delta.transaction_version(run_id)
        return last is not None and last >= batch

    def _appended_before(self, delta: DeltaTable, run_id: str, batch: int, rows: Sequence[Row]) -> Appended:
        """What was said of a batch when it was appended; all of it where the log does not reach back so far."""
        for version in history(self.store):
            if (version.run, version.batch) == (run_id, batch):
                return Appended(delta.version(), version.rows, version.dropped)
        return Appended(delta.version(), len(rows), 0)

    def _writable(self) -> DeltaTable:
        """The table, made if it is not there, with all of today's columns, and reached with credentials of today."""
        if self._delta is None or self.store.object_store_options() != self._options:
            self.refresh()
        if self._delta is None:
            try:
                self._delta = DeltaTable.create(
                    self.store.uri_of(TABLE),
                    schema=SCHEMA.remove_metadata(),
                    name="pinco manifest",
                    configuration=CONFIGURATION | OUR_CONFIGURATION,
                    storage_options=self._options,
                    raise_if_key_not_exists=False,
                )
            except (DeltaError, OSError) as error:
                if is_cut_short(error):
                    raise _BehindError(said_by(error)) from error
                self.refresh()  # another run may have made it at the same moment
                if self._delta is None:
                    raise ManifestError(f"{self.store.uri_of(TABLE)} cannot be made: {said_by(error)}") from error
        if self.schema_version < SCHEMA_VERSION:
            self._add_columns(self._delta)
        return self._delta

    def _add_columns(self, delta: DeltaTable) -> None:
        """Bring a table of an older version to today's columns; its rows have nothing in them."""
        try:
            there = {field.name for field in delta.schema().fields}
            lacking = [Field.from_arrow(field) for field in SCHEMA if field.name not in there]
            if lacking:
                delta.alter.add_columns(lacking)
            delta.alter.set_table_properties(OUR_CONFIGURATION, raise_if_not_exists=False)
        except (DeltaError, OSError) as error:
            # Another run may be doing it at the same moment; the next try finds its columns.
            raise _BehindError(f"the columns of today cannot be added: {first_line(error)}") from error

    def _check_schema(self, delta: DeltaTable) -> None:
        if self.schema_version > SCHEMA_VERSION:
            raise ManifestError(
                f"{self.store.uri_of(TABLE)} was written by a newer Pinco (schema {self.schema_version}, this one "
                f"knows up to {SCHEMA_VERSION}): update Pinco"
            )
        if "job_id" not in {field.name for field in delta.schema().fields}:
            raise ManifestError(f"{self.store.uri_of(TABLE)} is a Delta table, but not a manifest")


def open_manifest(
    uri: str, access: StoreAccess = DEFAULT_ACCESS, *, as_of: int | datetime | None = None
) -> ManifestTable:
    """The manifest of the store at `uri`; see `ManifestTable`.

    Args:
        uri: A folder, or `s3://bucket/prefix`.
        access: How S3 is reached.
        as_of: An earlier version, or a time, to read the manifest as it was then; None = as it is.

    Raises:
        StoreError: The store or its manifest cannot be read.
    """
    return ManifestTable(access.open(uri), as_of=as_of)


class _BehindError(Exception):
    """The version was taken by another writer, or the answer to an append got lost."""
