"""How the manifest's Delta table is reached: its address in a store, and what goes wrong there in words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pinco.catalog.store.base import Store, StoreError
from pinco.catalog.store.local import LocalStore

TABLE = "manifest"
"""The table's place in a store."""

LOG = f"{TABLE}/_delta_log/"
_MARKS = (f"{LOG}_last_checkpoint", f"{LOG}{0:020d}.json")
"""One of these is there as long as the table is: the first version goes only when a checkpoint replaces it."""

OLD_FIRST_COMMIT = "_commits/000000000001.json"
"""What the manifest of earlier versions, a log of its own, begins with."""


class ManifestError(StoreError):
    """The manifest's table cannot be read or written."""

    code = "manifest_error"


class OldManifestError(StoreError):
    """The store keeps its manifest in the format of earlier versions."""

    code = "old_manifest"


def open_delta(store: Store, options: dict[str, str]) -> DeltaTable | None:
    """The table of a store; None where there is none. A store is never made by looking into it.

    Args:
        store: The store.
        options: What `store.object_store_options()` said.

    Raises:
        OldManifestError: There is a manifest, but of the old format.
        ManifestError: It is there, but cannot be read.
    """
    if not any(store.head(mark) for mark in _MARKS):
        if store.head(OLD_FIRST_COMMIT):
            raise OldManifestError(
                f"{store.uri} keeps its manifest in the format of an earlier Pinco. Convert it once with "
                f"`pinco manifest migrate {store.uri}`; nothing is lost, and no image is made again."
            )
        return None
    with table_errors(store):
        return DeltaTable(store.uri_of(TABLE), storage_options=options)


@contextmanager
def table_errors(store: Store) -> Iterator[None]:
    """Turn what the table's library raises into a sentence."""
    try:
        yield
    except (DeltaError, OSError) as error:
        raise ManifestError(f"{store.uri_of(TABLE)}: the manifest cannot be used: {error}") from error


def sync_version(store: Store, version: int) -> None:
    """Make a version of a table in a folder survive a power cut: its log entry, its files, and their names.

    The library leaves that to the operating system. S3 has stored what it has answered.

    Args:
        store: The table's store.
        version: A version that this process has just written.
    """
    if not isinstance(store, LocalStore):
        return
    entry = Path(store.uri_of(f"{LOG}{version:020d}.json"))
    table = entry.parent.parent
    actions = [json.loads(line) for line in entry.read_text(encoding="utf-8").splitlines()]
    files = [table / action["add"]["path"] for action in actions if "add" in action]
    for path in (*files, table, entry, entry.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
