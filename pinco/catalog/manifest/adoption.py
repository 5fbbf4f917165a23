"""Rows that wait beside their images come into the manifest: those of this run, and those of runs that died."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pinco.catalog.delivery.images import key_of_image
from pinco.catalog.manifest.pending import PENDING, is_pending_key, pending_key, row_from_json
from pinco.catalog.manifest.readers import job_states
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import Appended, ManifestTable
from pinco.catalog.store.base import ObjectNotFoundError, Store, StoreError

_WORKERS = 16

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


def commit_rows(table: ManifestTable, rows: Sequence[Row], *, run_id: str, batch: int, base: int) -> Appended:
    """Append rows to the manifest (`ManifestTable.append`); they need not wait any more."""
    appended = table.append(rows, run_id=run_id, batch=batch, base=base)
    _remove(table.store, [pending_key(key_of_image(row.image_uri)) for row in rows if row.image_uri])
    return appended


def adopt_pending(table: ManifestTable, run_id: str) -> int:
    """Append the rows that an earlier run made and did not live to append. Returns how many.

    A row is adopted when its image is there and whole, and its job is not done. It keeps the id of the run that made
    it. A run that is still alive loses nothing: it finds these jobs done when it appends them itself.

    Args:
        table: The manifest.
        run_id: The run that adopts them.
    """
    store, base = table.store, table.version
    waiting = [info.key for info in store.list(PENDING) if is_pending_key(info.key)]
    if not waiting:
        return 0
    rows = {key: row for key, row in zip(waiting, _each(waiting, lambda key: _read(store, key)), strict=True) if row}
    done = job_states(table, {row.job_id for row in rows.values()}).done
    stale = [key for key, row in rows.items() if row.job_id in done]
    undone = {key: row for key, row in rows.items() if row.job_id not in done}
    whole = _each(undone.values(), lambda row: _is_whole(store, row))
    adopted = {key: row for (key, row), intact in zip(undone.items(), whole, strict=True) if intact}
    count = 0
    if adopted:
        count = table.append(list(adopted.values()), run_id=f"{run_id}.adopted", batch=1, base=base).rows
    _remove(store, [*stale, *adopted])
    return count


def _read(store: Store, key: str) -> Row | None:
    """The row that waits under this key; None where it is gone by now, or cannot be read."""
    try:
        return row_from_json(store.get(key))
    except ObjectNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s is passed over: %s", store.uri_of(key), error)
        return None


def _is_whole(store: Store, row: Row) -> bool:
    try:
        return hashlib.sha256(store.get(key_of_image(str(row.image_uri)))).hexdigest() == row.image_sha256
    except ObjectNotFoundError:
        return False


def _remove(store: Store, keys: Sequence[str]) -> None:
    """What cannot be removed is passed over by the next run, and removed by it or by `pinco manifest vacuum`."""
    try:
        store.delete_many(keys)
    except StoreError as error:
        log.warning("rows that the manifest has by now still wait beside their images: %s", error)


def _each(items: Iterable[T], work: Callable[[T], R]) -> list[R]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(work, items))
