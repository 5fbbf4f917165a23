from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pinco.catalog.delivery.images import put_image
from pinco.catalog.manifest.commits import CommitLog, read_commits
from pinco.catalog.manifest.orphans import adopt_orphans, collect_orphans
from pinco.catalog.manifest.parts import write_part
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]
LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def made(make_row: MakeRow) -> Callable[..., Row]:
    """A row whose image is in the store."""

    def make(store: Store, number: int, **given: object) -> Row:
        uri, sha256 = put_image(store, f"gen{number}", b"image %d" % number, "png")
        return make_row(number, image_uri=uri, image_sha256=sha256, **given)

    return make


def _statuses(store: Store) -> dict[str, tuple[str, str]]:
    return {row.sku: (row.run_id, row.status) for row in read_rows(store)}


def test_what_a_dead_run_finished_is_adopted(store: Store, made: Callable[..., Row], make_row: MakeRow) -> None:
    write_part(store, "run-a", 0, [made(store, 0), make_row(1, "failed")])
    write_part(store, "run-a", 1, [made(store, 2)])
    log = CommitLog(store)
    record = adopt_orphans(log, "run-b")
    assert record is not None
    assert (record.run_id, record.rows) == ("run-b.adopted", 3)
    assert _statuses(store) == {"0000": ("run-a", "ok"), "0001": ("run-a", "failed"), "0002": ("run-a", "ok")}
    assert adopt_orphans(log, "run-b") is None
    assert adopt_orphans(CommitLog(store), "run-c") is None


def test_there_may_be_nothing_to_adopt(folder_store: Store, made: Callable[..., Row]) -> None:
    log = CommitLog(folder_store)
    assert adopt_orphans(log, "run-b") is None
    part = write_part(folder_store, "run-a", 0, [made(folder_store, 0)])
    log.commit(run_id="run-a", batch=0, parts=[part], base=0)
    assert adopt_orphans(log, "run-b") is None
    assert len(read_commits(folder_store)) == 1


def test_rows_without_their_image_are_not_adopted(
    folder_store: Store, made: Callable[..., Row], make_row: MakeRow
) -> None:
    write_part(folder_store, "run-a", 0, [made(folder_store, 0), make_row(1)])
    adopt_orphans(CommitLog(folder_store), "run-b")
    assert _statuses(folder_store) == {"0000": ("run-a", "ok")}


def test_damaged_parts_are_left_alone(folder_store: Store, made: Callable[..., Row]) -> None:
    part = write_part(folder_store, "run-a", 0, [made(folder_store, 0)])
    data = folder_store.get(part.key)
    folder_store.delete(part.key)
    folder_store.put_if_absent(part.key, data[:-50])
    assert adopt_orphans(CommitLog(folder_store), "run-b") is None


def test_an_orphan_never_hides_what_is_known_better(
    folder_store: Store, made: Callable[..., Row], make_row: MakeRow
) -> None:
    log = CommitLog(folder_store)
    committed = [made(folder_store, 0, run_id="run-x"), make_row(1, "failed", "run-x"), make_row(2, "failed", "run-x")]
    part = write_part(folder_store, "run-x", 0, committed)
    log.commit(run_id="run-x", batch=0, parts=[part], base=0)
    write_part(folder_store, "run-a", 0, [made(folder_store, 0), make_row(1, "failed"), made(folder_store, 2)])
    adopt_orphans(log, "run-b")
    assert _statuses(folder_store) == {
        "0000": ("run-x", "ok"),
        "0001": ("run-x", "failed"),
        "0002": ("run-a", "ok"),
    }


def test_a_live_run_whose_part_was_adopted_commits_nothing_twice(folder_store: Store, made: Callable[..., Row]) -> None:
    alive = CommitLog(folder_store)
    part = write_part(folder_store, "run-a", 0, [made(folder_store, 0)])
    adopt_orphans(CommitLog(folder_store), "run-b")
    record = alive.commit(run_id="run-a", batch=0, parts=[part], base=0)
    assert (record.rows, record.dropped) == (0, 1)
    assert _statuses(folder_store) == {"0000": ("run-a", "ok")}


def test_orphans_are_collected_after_the_grace_period(store: Store, made: Callable[..., Row]) -> None:
    log = CommitLog(store)
    kept = made(store, 0)
    part = write_part(store, "run-a", 0, [kept])
    log.commit(run_id="run-a", batch=0, parts=[part], base=0)
    orphan = write_part(store, "run-a", 1, [made(store, 1)])
    image = put_image(store, "gen1", b"image 1", "png")[0]

    assert collect_orphans(store).parts == ()
    assert store.head(orphan.key) is not None

    found = collect_orphans(store, now=LATER, dry_run=True)
    assert found.parts == (orphan.key,)
    assert [store.uri_of(key) for key in found.images] == [image]
    assert found.size > 0
    assert store.head(orphan.key) is not None

    assert collect_orphans(store, now=LATER) == found
    assert collect_orphans(store, now=LATER).size == 0
    assert read_rows(store) == [kept]
    assert store.get(f"images/gen0-{str(kept.image_sha256)[:16]}.png") == b"image 0"


def test_images_of_superseded_rows_stay(folder_store: Store, made: Callable[..., Row]) -> None:
    log = CommitLog(folder_store)
    for run_id, number in (("run-a", 0), ("run-b", 1)):
        row = made(folder_store, number, run_id=run_id)
        part = write_part(folder_store, run_id, 0, [row])
        log.commit(run_id=run_id, batch=0, parts=[part], base=log.head)
    assert collect_orphans(folder_store, now=LATER) == collect_orphans(folder_store, now=LATER, dry_run=True)
    assert len(list(folder_store.list("images/"))) == 2


def test_what_dead_writers_left_is_swept(folder_store: Store, made: Callable[..., Row]) -> None:
    made(folder_store, 0)
    staged = Path(folder_store.uri, ".staging", "dead")
    staged.write_bytes(b"half")
    collect_orphans(folder_store, now=LATER)
    assert not staged.exists()
