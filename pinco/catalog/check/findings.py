"""Looks a store through: its table, the images that rows name, the rows that wait. Writes nothing."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pinco.catalog.delivery.images import IMAGES, is_image_key, key_of_image
from pinco.catalog.manifest.connect import LOG, TABLE, ManifestError
from pinco.catalog.manifest.damage import (
    LAST_CHECKPOINT,
    damaged_data_files,
    damaged_log_files,
    data_files,
    entry_number,
    is_checkpoint,
)
from pinco.catalog.manifest.pending import PENDING, image_of, is_pending_key, row_from_json
from pinco.catalog.manifest.runs import require_manifest
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.base import ObjectNotFoundError, Store
from pinco.errors import first_line

SAMPLE = 200
"""Images that are read and hashed, unless all are."""

_READERS = 16
_COLUMNS = ["image_uri", "image_sha256", "image_bytes"]

Kind = Literal["log", "rows", "image", "waiting"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as the manifest says.

    Attributes:
        kind: A file of the table's log, a file of its rows, an image, or a row that waits.
        key: In the store.
        reason: What is wrong.
        rows: How many rows of the manifest are lost with it, or name it.
        repairable: Whether the store can go on without it.
        named: The image's addresses in the table.
    """

    kind: Kind
    key: str
    reason: str
    rows: int = 0
    repairable: bool = True
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Checked:
    """What was looked through.

    Attributes:
        files: Files of the table.
        rows: Rows in them, superseded ones too.
        images: Images that they name.
        hashed: How many of these were read.
        waiting: Rows that wait beside their images; the next run takes them over.
        unnamed: Images that no row names; `pinco manifest vacuum` removes them when they are old.
        findings: What is wrong.
    """

    files: int
    rows: int
    images: int
    hashed: int
    waiting: int
    unnamed: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Named:
    sha256: str | None
    size: int | None
    named: frozenset[str]
    rows: int


def check_store(store: Store, *, full: bool = False) -> Checked:
    """Compare everything that is in a store with what its manifest says.

    Args:
        store: The store.
        full: Read every image; otherwise `SAMPLE` of them, others each time.

    Raises:
        NoManifestError: There is no manifest at all.
        StoreError: The store cannot be reached.
    """
    findings = list(_log_findings(store))
    try:
        table = ManifestTable(store)
    except ManifestError as error:
        if not findings:
            findings.append(Finding("log", TABLE, first_line(error), repairable=False))
        return Checked(0, 0, 0, 0, 0, 0, tuple(findings))
    if not findings:
        require_manifest(table)
    if table.delta is None:
        return Checked(0, 0, 0, 0, 0, 0, tuple(findings))
    damaged = {file.key: file for file in damaged_data_files(store, table.delta, f"{TABLE}/")}
    findings += [Finding("rows", file.key, file.reason, file.rows) for file in damaged.values()]
    files = list(data_files(table.delta, f"{TABLE}/"))
    named = _named(store, [file.key for file in files if file.key not in damaged])
    listed = {info.key: info.size for info in store.list(IMAGES) if is_image_key(info.key)}
    waiting, unreadable = _waiting(store)
    findings += unreadable
    missing = [_compared(key, image, listed.get(key)) for key, image in named.items()]
    findings += [finding for finding in missing if finding is not None]
    there = [key for key, finding in zip(named, missing, strict=True) if finding is None]
    chosen = there if full else random.sample(there, min(SAMPLE, len(there)))
    findings += _hashed(store, {key: named[key] for key in chosen})
    return Checked(
        files=len(files),
        rows=sum(file.rows or 0 for file in files),
        images=len(named),
        hashed=len(chosen),
        waiting=len(waiting),
        unnamed=len(listed.keys() - named.keys() - waiting),
        findings=tuple(findings),
    )


def _log_findings(store: Store) -> Iterator[Finding]:
    damaged = list(damaged_log_files(store, LOG))
    keys = [info.key for info in store.list(LOG)] if damaged else []
    bad = {file.key for file in damaged}
    sound = [key for key in keys if key not in bad]
    entries = {entry_number(key) for key in sound if not is_checkpoint(key)}
    checkpoints = [entry_number(key) or 0 for key in sound if is_checkpoint(key) and not key.endswith(LAST_CHECKPOINT)]
    newest = max((number for number in map(entry_number, keys) if number is not None), default=-1)
    # What is needed is the last sound checkpoint and all entries after it; without one, all entries there ever were.
    last = max(checkpoints, default=-1)
    replaced = all(number in entries for number in range(last + 1, newest + 1))
    for file in damaged:
        covered = (entry_number(file.key) or 0) <= last and not is_checkpoint(file.key)
        yield Finding("log", file.key, file.reason, repairable=covered or (is_checkpoint(file.key) and replaced))


def _named(store: Store, files: Iterable[str]) -> dict[str, _Named]:
    """What rows say of every image that they name, by its key."""
    named: dict[str, _Named] = {}
    for file in files:
        parquet = pq.ParquetFile(pa.BufferReader(store.get(file)))
        columns = [name for name in _COLUMNS if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(columns=columns):
            for row in batch.to_pylist():
                if row["image_uri"]:
                    key = key_of_image(row["image_uri"])
                    before = named.get(key, _Named(None, None, frozenset(), 0))
                    sha256, size = row.get("image_sha256"), row.get("image_bytes")
                    named[key] = _Named(
                        sha256 or before.sha256,
                        before.size if size is None else size,
                        before.named | {row["image_uri"]},
                        before.rows + 1,
                    )
    return named


def _compared(key: str, image: _Named, size: int | None) -> Finding | None:
    """What is wrong with an image as far as a listing tells."""
    if size is None:
        reason = "it is gone"
    elif size == 0:
        reason = "it is empty"
    elif image.size is not None and size != image.size:
        reason = f"it has {size} bytes, and was written with {image.size}"
    else:
        return None
    return Finding("image", key, reason, image.rows, named=image.named)


def _hashed(store: Store, images: dict[str, _Named]) -> list[Finding]:
    """Images whose bytes are not those that were written."""

    def reason(key: str) -> str | None:
        try:
            found = hashlib.sha256(store.get(key)).hexdigest()
        except ObjectNotFoundError:
            return "it is gone"
        return None if found == images[key].sha256 else "its bytes are not those that were written"

    with ThreadPoolExecutor(_READERS) as pool:
        reasons = dict(zip(images, pool.map(reason, images), strict=True))
    return [
        Finding("image", key, said, images[key].rows, named=images[key].named) for key, said in reasons.items() if said
    ]


def _waiting(store: Store) -> tuple[set[str], list[Finding]]:
    """The images that rows wait for, and the rows that cannot be read."""
    keys = [info.key for info in store.list(PENDING) if is_pending_key(info.key)]

    def reason(key: str) -> str | None:
        try:
            row_from_json(store.get(key))
        except ObjectNotFoundError:  # its run has just appended it
            return None
        except ValueError as error:
            return first_line(error)
        return None

    with ThreadPoolExecutor(_READERS) as pool:
        reasons = dict(zip(keys, pool.map(reason, keys), strict=True))
    unreadable = [Finding("waiting", key, said) for key, said in reasons.items() if said]
    return {image_of(key) for key, said in reasons.items() if not said}, unreadable
