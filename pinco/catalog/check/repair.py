"""A store goes on without what is lost: rows of such images go, so that the next run makes them again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pinco.catalog.check.findings import Finding
from pinco.catalog.manifest.adoption import adopt_pending
from pinco.catalog.manifest.connect import LOG, TABLE, ManifestError, sync_version, table_errors
from pinco.catalog.manifest.damage import LAST_CHECKPOINT, is_checkpoint
from pinco.catalog.manifest.readers import READ_AHEAD
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import COMPACTED
from pinco.catalog.store.base import ObjectNotFoundError, Store

DAMAGED = "_damaged/"
"""Where damaged files are kept; nothing reads them."""


@dataclass(frozen=True)
class Repaired:
    """What was done.

    Attributes:
        rows: Rows that were removed from the table; their jobs are made again by the next run of their sheet.
        adopted: Rows that waited and are in the table now.
        left: What cannot be repaired.
    """

    rows: int
    adopted: int
    left: tuple[Finding, ...]


def repair(store: Store, findings: Sequence[Finding], run_id: str) -> Repaired:
    """Make a store usable again. Not to be done beside a run.

    Args:
        store: The store.
        findings: What `check_store` has found.
        run_id: A name for what is adopted.

    Raises:
        StoreError: The store cannot be written.
    """
    mended = [finding for finding in findings if finding.repairable]
    left = tuple(finding for finding in findings if not finding.repairable)
    for finding in mended:
        _set_aside(store, finding.key)
        if finding.kind == "log" and is_checkpoint(finding.key):
            _set_aside(store, LOG + LAST_CHECKPOINT)  # it may name this one
    if any(finding.kind == "log" for finding in left):
        return Repaired(0, 0, left)
    table = ManifestTable(store)
    if table.delta is None:
        raise ManifestError(f"{store.uri} has no manifest any more: bring it back from a backup")
    if any(finding.kind == "log" for finding in mended):
        with table_errors(store):
            table.delta.create_checkpoint()
    rows = sum(finding.rows for finding in mended if finding.kind == "rows")
    if any(finding.kind == "rows" for finding in mended):
        with table_errors(store):
            table.delta.repair()
        sync_version(store, table.delta.version())
    named = sorted({uri for finding in mended if finding.kind == "image" for uri in finding.named})
    if named:
        rows += _remove_rows(table, named)
    return Repaired(rows, adopt_pending(ManifestTable(store), run_id), left)


def _set_aside(store: Store, key: str) -> None:
    """Move a damaged file to where nothing reads it; one that is gone stays gone."""
    try:
        data = store.get(key)
    except ObjectNotFoundError:
        return
    store.put_if_absent(f"{DAMAGED}{key}.{hashlib.sha256(data).hexdigest()[:8]}", data)
    store.delete(key)


def _remove_rows(table: ManifestTable, uris: Sequence[str]) -> int:
    """Write the table once more without these images' rows, as one version; earlier versions still have them.

    (The library's own `delete` writes files whose texts have another Arrow type, which Arrow datasets cannot filter.)
    """
    retrying = Retrying(
        retry=retry_if_exception_type(CommitFailedError),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=stop_after_attempt(20),
        reraise=True,
    )
    lost = pc.field("image_uri").isin(pa.array(uris, pa.string()))
    with table_errors(table.store, table.delta):
        for attempt in retrying:
            with attempt:
                table.refresh()
                dataset = table.dataset()
                removed = int(dataset.count_rows(filter=lost))
                kept = dataset.scanner(filter=~lost | pc.field("image_uri").is_null(), **READ_AHEAD).to_reader()
                write_deltalake(
                    table.delta or table.store.uri_of(TABLE),
                    kept,
                    mode="overwrite",
                    writer_properties=COMPACTED,
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
    table.refresh()
    sync_version(table.store, table.version)
    return removed
