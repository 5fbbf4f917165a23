"""How the manifest's Delta table is reached: its address in a store, and what goes wrong there in words."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from tenacity import RetryCallState, retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from pinco.catalog.manifest.damage import DamagedFile, damaged_data_files, damaged_log_files, entry_number
from pinco.catalog.store.base import Store, StoreError
from pinco.catalog.store.local import LocalStore
from pinco.errors import PincoError

log = logging.getLogger(__name__)

T = TypeVar("T")

TABLE = "manifest"
"""The table's place in a store."""

LOG = f"{TABLE}/_delta_log/"
_MARKS = (f"{LOG}_last_checkpoint", f"{LOG}{0:020d}.json")
"""One of these is there as long as the table is: the first version goes only when a checkpoint replaces it."""

READ_ATTEMPTS = 5
"""Attempts to read an answer that ends early."""

_BRANCH = re.compile(r"\s*\n\s*(?:\x1b\[\d+m)?↳(?:\x1b\[\d+m)?\s*")
"""How the table's library joins an error and its causes: a line each, with a coloured arrow."""

OLD_FIRST_COMMIT = "_commits/000000000001.json"
"""What the manifest of earlier versions, a log of its own, begins with."""


class ManifestError(StoreError):
    """The manifest's table cannot be read or written."""

    code = "manifest_error"


class NoManifestError(StoreError):
    """There is no manifest at this address."""

    code = "no_manifest"


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
    if not any(store.head(mark) for mark in _MARKS) and not _has_versions(store):
        if store.head(OLD_FIRST_COMMIT):
            raise OldManifestError(
                f"{store.uri} keeps its manifest in the format of an earlier Pinco. Convert it once with "
                f"`pinco manifest migrate {store.uri}`; nothing is lost, and no image is made again."
            )
        return None
    with table_errors(store):
        return read_whole(lambda: DeltaTable(store.uri_of(TABLE), storage_options=options))


def _has_versions(store: Store) -> bool:
    """Whether there is a log although its first entry has gone for its age, and the note of the last checkpoint too."""
    return any(entry_number(info.key) is not None for info in store.list(LOG))


def is_cut_short(error: BaseException) -> bool:
    """Whether the table's library says that the body of an answer ended early, on its way from the store."""
    return "response body error" in str(error)


def _log_cut(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    said = said_by(error) if error else ""
    log.warning("the manifest was read incompletely (attempt %d): %s; reading again", state.attempt_number, said)


@retry(
    retry=retry_if_exception(is_cut_short),
    stop=stop_after_attempt(READ_ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.1, max=5),
    before_sleep=_log_cut,
    reraise=True,
)
def read_whole(read: Callable[[], T]) -> T:
    """What `read` returns. It is called again when the body of an answer ends early.

    The table's library repeats requests that fail, and reads the rest of a file of rows, but gives up over a list of
    files, or an entry of the log, that is cut short.
    """
    return read()


@contextmanager
def table_errors(store: Store, delta: DeltaTable | None = None) -> Iterator[None]:
    """Turn what the table's library raises into a sentence, which names the damaged file where there is one.

    Args:
        store: The table's store.
        delta: The table, where its log could be read: its files are looked through too.
    """
    try:
        yield
    except PincoError:
        raise
    except BaseException as error:
        # DeltaError, OSError, ArrowInvalid, plain Exception, and for some damage a panic, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        said = f"{store.uri_of(TABLE)}: the manifest cannot be used: {said_by(error)}"
        damaged = None if isinstance(error, CommitFailedError) else _first_damaged(store, delta)
        if damaged is not None:
            said = (
                f"{store.uri_of(damaged.key)} is damaged, and with it the manifest: {damaged.reason}. "
                f"`pinco check {store.uri}` says what is lost, and what to do"
            )
        raise ManifestError(said) from error


def said_by(error: BaseException) -> str:
    """What the table's library says, with the causes that it names, in one line."""
    return _BRANCH.sub(": ", str(error).strip()).partition("\n")[0] or type(error).__name__


def _first_damaged(store: Store, delta: DeltaTable | None) -> DamagedFile | None:
    try:
        found = next(damaged_log_files(store, LOG, newest=True), None)
        if found is None and delta is not None:
            found = next(damaged_data_files(store, delta, f"{TABLE}/"), None)
        return found
    except (StoreError, OSError, ValueError, pa.ArrowException):  # then the store itself is what is wrong
        return None


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
