"""What runs that died left behind: parts that no commit names, and images that no row names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from pinco.catalog.delivery.images import IMAGES, key_of_image
from pinco.catalog.manifest.commits import Commit, CommitLog
from pinco.catalog.manifest.parts import PARTS, DamagedPartError, find_part, read_part, write_table
from pinco.catalog.manifest.schema import DONE, take_rows
from pinco.catalog.store.base import Store, StoreError

GRACE = timedelta(days=7)
"""How long an orphan is left alone: longer than any run takes, so that nobody is about to commit it."""

_WORKERS = 16


def adopt_orphans(log: CommitLog, run_id: str) -> Commit | None:
    """Commit the finished rows that an earlier run wrote but did not live to commit; None where there are none.

    A row is adopted when its part is whole, its image is there (if it has one), and the log knows nothing better of
    its job: no row at all, or one that is not done while this one is. The adopted rows keep the run id of the run that
    made them. A run that is still alive loses nothing: it finds these jobs done when it commits them itself.
    """
    log.refresh()
    known = {part.key for record in log.commits for part in record.parts}
    known.update(key for record in log.commits for key in record.submitted)
    tables: list[pa.Table] = []
    for info in list(log.store.list(PARTS)):
        if info.key in known:
            continue
        try:
            _, table = find_part(log.store, info.key)
        except DamagedPartError:  # it was never visible, and is collected after the grace period
            continue
        adopted = take_rows(table, _adoptable(log, table))
        if adopted.num_rows:
            tables.append(adopted)
    if not tables:
        return None
    adopter = f"{run_id}.adopted"
    base, batch = log.head, log.head + 1
    part = write_table(log.store, adopter, batch, pa.concat_tables(tables))
    return log.commit(run_id=adopter, batch=batch, parts=[part], base=base)


@dataclass(frozen=True)
class Collected:
    """What `collect_orphans` removed (or would remove): keys, and their size in bytes."""

    parts: tuple[str, ...]
    images: tuple[str, ...]
    size: int


def collect_orphans(
    store: Store, *, grace: timedelta = GRACE, now: datetime | None = None, dry_run: bool = False
) -> Collected:
    """Delete parts that no commit names and images that no committed row names, if they are older than `grace`.

    Images of rows that a later commit superseded stay: they can still be replayed and compared. A run that has been
    going on for longer than `grace` may hold uncommitted parts: do not collect beside one.
    """
    before = (now or datetime.now(UTC)) - grace
    # The listing comes first: what is committed after it is in the log that is read next.
    old = [info for prefix in (PARTS, IMAGES) for info in store.list(prefix) if info.modified < before]
    log = CommitLog(store)
    named = {part.key for record in log.commits for part in record.parts}
    for record in log.commits:
        for part in record.parts:
            uris = read_part(store, part, ["image_uri"]).column("image_uri").to_pylist()
            named.update(key_of_image(uri) for uri in uris if uri)
    orphans = [info for info in old if info.key not in named]
    if not dry_run:
        store.sweep(before)
        for info in orphans:
            store.delete(info.key)
    return Collected(
        parts=tuple(info.key for info in orphans if info.key.startswith(PARTS)),
        images=tuple(info.key for info in orphans if info.key.startswith(IMAGES)),
        size=sum(info.size for info in orphans),
    )


def _adoptable(log: CommitLog, table: pa.Table) -> list[int]:
    rows = table.select(["job_id", "status", "image_uri"]).to_pylist()
    candidates = []
    for index, row in enumerate(rows):
        state = log.states.get(row["job_id"])
        if state is None or (row["status"] in DONE and not state.done):
            candidates.append(index)
    with ThreadPoolExecutor(_WORKERS) as pool:
        present = list(pool.map(lambda index: _has_image(log.store, rows[index]["image_uri"]), candidates))
    return [index for index, there in zip(candidates, present, strict=True) if there]


def _has_image(store: Store, image_uri: str | None) -> bool:
    try:
        return image_uri is None or store.head(key_of_image(image_uri)) is not None
    except (StoreError, ValueError):
        return False
