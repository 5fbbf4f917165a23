"""Upkeep of the manifest: fewer and larger files, and nothing left of runs that died."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import BloomFilterProperties, ColumnProperties, WriterProperties

from pinco.catalog.delivery.images import IMAGES, is_image_key, key_of_image
from pinco.catalog.manifest.connect import TABLE, table_errors
from pinco.catalog.manifest.pending import PENDING, image_of, is_pending_key, pending_key
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.base import ObjectInfo

GRACE = timedelta(days=7)
"""How long what nobody names is left alone: longer than any run takes, so that nobody is about to append it."""

FILE_BYTES = 256 * 2**20
"""Size of compacted files, about. Larger ones are left alone by later compactions."""

RUNNING_FILE_BYTES = 32 * 2**20
"""The same while a run goes on, which compacts often: what it rewrites each time is no more than this."""

GROUP_ROWS = 2**16
"""Rows of a row group: what is read for one row, once its Bloom filter said that it may be there."""

_RANDOM = ("job_id", "image_uri", "image_sha256", "pixels_sha256", "recipe")  # no value twice: a dictionary is in vain
_DATA_FILE = re.compile(r"part-\d+-.+\.parquet")
_CHUNK = 500_000  # images that are judged at once; bounds the memory

COMPACTED = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    max_row_group_size=GROUP_ROWS,
    column_properties={
        **{name: ColumnProperties(dictionary_enabled=False) for name in _RANDOM},
        "generation_id": ColumnProperties(
            dictionary_enabled=False,
            bloom_filter_properties=BloomFilterProperties(True, fpp=0.01, ndv=GROUP_ROWS),
        ),
    },
)
"""How compacted files are written (measured: docs/performance.md)."""


@dataclass(frozen=True)
class Compacted:
    """What compaction did: the number of files that there were and are."""

    before: int
    after: int


@dataclass(frozen=True)
class Vacuumed:
    """What a vacuum removed, or would remove: keys in the store.

    Attributes:
        table_files: Files of the table that no version of the last days needs.
        images: Images that no row names.
        waiting: Rows that wait for an image that never came.
        size: Bytes of all of them.
    """

    table_files: tuple[str, ...]
    images: tuple[str, ...]
    waiting: tuple[str, ...]
    size: int


def compact(table: ManifestTable, *, file_bytes: int = FILE_BYTES) -> Compacted:
    """Put small files together and write a checkpoint.

    Readers and runs go on meanwhile, and earlier versions stay readable.

    Args:
        table: The manifest.
        file_bytes: Size that files get, about.

    Raises:
        ManifestError: The table cannot be written, or another compaction was faster.
    """
    table.refresh()
    if table.delta is None:
        return Compacted(0, 0)
    with table_errors(table.store):
        before = len(table.delta.file_uris())
        table.delta.optimize.compact(target_size=file_bytes, max_concurrent_tasks=1, writer_properties=COMPACTED)
        table.delta.create_checkpoint()
        return Compacted(before, len(table.delta.file_uris()))


def vacuum(
    table: ManifestTable, *, grace: timedelta = GRACE, now: datetime | None = None, delete: bool = False
) -> Vacuumed:
    """Find, and with `delete` remove, what is older than `grace` and nobody needs.

    Images of rows that a later row superseded stay: they can still be replayed and compared. A run that goes on for
    longer than `grace` may hold images whose rows are not appended: do not vacuum beside one.

    Args:
        table: The manifest.
        grace: The least age. Versions of the table that needed what is removed cannot be read any more.
        now: The time by which ages are judged; None = the clock's.
        delete: Remove it; otherwise it is only said.
    """
    store, before = table.store, (now or datetime.now(UTC)) - grace
    table_files = _unneeded_files(table, grace, now)
    waiting = {info.key: info for info in store.list(PENDING) if is_pending_key(info.key)}
    orphans: list[ObjectInfo] = []
    # The listing comes before the look at the rows: what is appended after it is in the rows that are read next.
    listing = (info for info in store.list(IMAGES) if info.modified < before and is_image_key(info.key))
    while chunk := list(islice(listing, _CHUNK)):
        table.refresh()
        named = _named(table, chunk)
        orphans += [info for info in chunk if info.key not in named and pending_key(info.key) not in waiting]
    in_vain = [info for info in waiting.values() if info.modified < before and not store.head(image_of(info.key))]
    if delete:
        store.delete_many([info.key for info in (*table_files, *orphans, *in_vain)])
        store.sweep(before)
    return Vacuumed(
        table_files=tuple(info.key for info in table_files),
        images=tuple(info.key for info in orphans),
        waiting=tuple(info.key for info in in_vain),
        size=sum(info.size for info in (*table_files, *orphans, *in_vain)),
    )


def _unneeded_files(table: ManifestTable, grace: timedelta, now: datetime | None) -> list[ObjectInfo]:
    """Files in the table's folder that no version within `grace` needs: compacted ones, and those of lost races."""
    if table.delta is None:
        return []
    age = grace - ((now or datetime.now(UTC)) - datetime.now(UTC))
    hours = max(0, int(age.total_seconds() // 3600))
    sizes = {info.key: info for info in table.store.list(f"{TABLE}/")}
    with table_errors(table.store):
        found = table.delta.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=True)
    # The library would remove whatever it finds; a note that somebody left there is not ours to delete.
    names = (path.rpartition("/")[2] for path in found)
    keys = (f"{TABLE}/{name}" for name in names if _DATA_FILE.fullmatch(name))
    return [sizes[key] for key in keys if key in sizes]


def _named(table: ManifestTable, images: list[ObjectInfo]) -> set[str]:
    """Those of these images' keys that a row names."""
    generations = {info.key.removeprefix(IMAGES).partition("-")[0] for info in images}
    asked = pc.field("generation_id").isin(pa.array(generations, pa.string()))
    with table_errors(table.store):
        uris = table.dataset().to_table(["image_uri"], filter=asked).column("image_uri").to_pylist()
    return {key_of_image(uri) for uri in uris if uri}
