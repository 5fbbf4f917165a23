"""The manifest of earlier versions becomes a Delta table: its commits are read in order and written as one version.

The old manifest was a chain of JSON objects, `_commits/{number}.json`, each with the hash of the one before, that name
Parquet files, `_parts/...`, by their hashes. Nothing of it is changed or removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from pinco.catalog.manifest.connect import (
    TABLE,
    ManifestError,
    OldManifestError,
    open_delta,
    sync_version,
    table_errors,
)
from pinco.catalog.manifest.history import NOTE
from pinco.catalog.manifest.schema import SCHEMA, conform, with_sequence
from pinco.catalog.manifest.table import CONFIGURATION, OUR_CONFIGURATION
from pinco.catalog.manifest.upkeep import COMPACTED
from pinco.catalog.store.base import ObjectNotFoundError, Store, StoreError

_COMMITS = "_commits/"


class DamagedLogError(StoreError):
    """The old manifest is not as it was written."""

    code = "damaged_log"


@dataclass(frozen=True)
class Migrated:
    """What was converted: commits of the old log, and their rows."""

    commits: int
    rows: int


@dataclass(frozen=True)
class _Part:
    key: str
    sha256: str
    rows: int


def migrate(store: Store) -> Migrated | None:
    """Convert a store's old manifest. None where there is nothing to convert, or it is converted already.

    All commits become the table's first version, in one step: a migration that dies leaves nothing behind. Their rows
    get the sequences ..., -1, 0, in the order of the commits, so that every later row is newer.

    Raises:
        DamagedLogError: The old manifest has a gap, or was changed after it was written. Nothing was converted.
        ManifestError: The table cannot be written.
    """
    options = store.object_store_options()
    commits = list(_commits(store))
    if not commits or _is_table(store, options):
        return None
    rows = sum(part.rows for parts in commits for part in parts)
    schema = SCHEMA.remove_metadata()
    damage: list[StoreError] = []  # errors come back from the library as text only

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for table in _tables(store, commits):
                yield from table.to_batches()
        except StoreError as error:
            damage.append(error)
            raise

    try:
        write_deltalake(
            store.uri_of(TABLE),
            pa.RecordBatchReader.from_batches(schema, batches()),
            mode="error",
            name="pinco manifest",
            configuration=CONFIGURATION,
            storage_options=options,
            writer_properties=COMPACTED,
            commit_properties=CommitProperties(custom_metadata={NOTE: {"run": "migrated", "rows": rows, "dropped": 0}}),
        )
    except (DeltaError, OSError) as error:
        if damage:
            raise damage[0] from None
        raise ManifestError(f"{store.uri_of(TABLE)} cannot be made: {error}") from error
    sync_version(store, 0)
    with table_errors(store):
        table = DeltaTable(store.uri_of(TABLE), storage_options=options)
        table.alter.set_table_properties(OUR_CONFIGURATION, raise_if_not_exists=False)
    return Migrated(len(commits), rows)


def _is_table(store: Store, options: dict[str, str]) -> bool:
    try:
        return open_delta(store, options) is not None
    except OldManifestError:
        return False


def _commits(store: Store) -> Iterator[list[_Part]]:
    """The parts of every commit, in order, after checking the chain."""
    parent: str | None = None
    listed = {info.key for info in store.list(_COMMITS)}
    number = 1
    while True:
        key = f"{_COMMITS}{number:012d}.json"
        try:
            data = store.get(key)
        except ObjectNotFoundError:
            if any(other > key for other in listed):
                raise DamagedLogError(f"{store.uri_of(key)} is missing, and later commits are there") from None
            return
        try:
            fields: dict[str, Any] = json.loads(data)
            found, parts = (fields["seq"], fields["parent"]), [_Part(**part) for part in fields["parts"]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DamagedLogError(f"{store.uri_of(key)} is not a commit of the old manifest: {error}") from error
        if found != (number, parent):
            raise DamagedLogError(f"{store.uri_of(key)} does not continue the commit before it: the log was changed")
        yield parts
        parent, number = hashlib.sha256(data).hexdigest(), number + 1


def _tables(store: Store, commits: list[list[_Part]]) -> Iterator[pa.Table]:
    """The rows of every part, in order, with their sequences."""
    for sequence, parts in enumerate(commits, start=1 - len(commits)):
        for part in parts:
            data = store.get(part.key)
            if hashlib.sha256(data).hexdigest() != part.sha256:
                raise DamagedLogError(f"{store.uri_of(part.key)} was changed after it was committed")
            yield with_sequence(conform(pq.read_table(pa.BufferReader(data))), sequence).replace_schema_metadata()
