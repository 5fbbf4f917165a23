from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows.driver import recorder as module
from flows.driver.endings import TooManyFailuresError
from flows.driver.recorder import Recorder
from flows.settings import CommitSettings, FailureSettings
from pinco.catalog.delivery.images import image_key
from pinco.catalog.manifest.adoption import adopt_pending
from pinco.catalog.manifest.history import history
from pinco.catalog.manifest.pending import PENDING, keep_image
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.schema import Row, Status
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import open_store
from pinco.catalog.store.base import Store, StoreError

NewRecorder = Callable[..., Recorder]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def new_recorder(store: Store, clock: Clock) -> NewRecorder:
    def make(rows: int = 100, share: float = 1.0, at_least: int = 100, base: int | None = None) -> Recorder:
        table = ManifestTable(store)
        return Recorder(
            table,
            "night",
            base=table.version if base is None else base,
            commit=CommitSettings(rows=rows, seconds=10),
            failures=FailureSettings(share=share, rows=at_least),
            clock=clock,
        )

    return make


@pytest.fixture
def made(store: Store, failed: Callable[..., Row]) -> Callable[[int], Row]:
    """A row as a worker hands it over: its image is in the store, and the row beside it."""

    def make(number: int) -> Row:
        file = b"image %d" % number
        generation, sha256 = f"{number:064x}", hashlib.sha256(file).hexdigest()
        row = replace(
            failed(number),
            status="ok",
            error_type=None,
            error_message=None,
            generation_id=generation,
            image_uri=store.uri_of(image_key(generation, sha256, "png")),
            image_sha256=sha256,
            recipe="{}",
        )
        keep_image(store, row, file, "png")
        return row

    return make


def visible(store: Store) -> int:
    return len(read_rows(ManifestTable(store)))


def test_images_of_a_killed_driver_are_adopted_by_the_next_run(
    new_recorder: NewRecorder, made: Callable[[int], Row], failed: Callable[..., Row], store: Store
) -> None:
    recorder = new_recorder()
    recorder.add([made(0), failed(1)])  # the failure is lost, and its job asked again
    made(2)  # the driver never heard of it
    assert visible(store) == 0
    assert adopt_pending(ManifestTable(store), "next-night") == 2
    assert {row.variant for row in read_rows(ManifestTable(store))} == {0, 2}


def test_appended_rows_wait_no_longer(new_recorder: NewRecorder, made: Callable[[int], Row], store: Store) -> None:
    recorder = new_recorder()
    recorder.add([made(0), made(1)])
    assert len(list(store.list(PENDING))) == 2
    recorder.commit()
    assert (visible(store), list(store.list(PENDING))) == (2, [])


def test_rows_become_visible_when_enough_of_them_are_there(
    new_recorder: NewRecorder, failed: Callable[..., Row], store: Store
) -> None:
    recorder = new_recorder(rows=2)
    recorder.add([failed(0)])
    assert visible(store) == 0
    recorder.add([failed(1)])
    assert visible(store) == 2


def test_rows_become_visible_when_it_is_time(
    new_recorder: NewRecorder, failed: Callable[..., Row], store: Store, clock: Clock
) -> None:
    recorder = new_recorder()
    seen = []
    for number, now in enumerate((9, 11, 19, 22)):
        recorder.add([failed(number)])
        clock.now = now
        recorder.tick()
        seen.append(visible(store))
    assert seen == [0, 2, 2, 4]
    assert [(v.run, v.batch, v.rows) for v in history(store) if v.run] == [("night", 2, 2), ("night", 1, 2)]
    assert recorder.appends == 2


def test_nothing_to_append_appends_nothing(new_recorder: NewRecorder, store: Store) -> None:
    recorder = new_recorder()
    recorder.commit()
    assert (recorder.appends, list(store.list())) == (0, [])


def test_what_another_run_has_done_meanwhile_is_counted(
    new_recorder: NewRecorder, made: Callable[[int], Row], store: Store
) -> None:
    recorder = new_recorder()
    other = replace(made(0), run_id="other")
    ManifestTable(store).append([other], run_id="other", batch=1, base=0)
    recorder.add([made(0), made(1)])
    recorder.commit()
    assert (recorder.dropped, recorder.snapshot().total()) == (1, 2)
    assert {row.variant: row.run_id for row in read_rows(ManifestTable(store))} == {0: "other", 1: "night"}


def test_too_many_failures_are_said_after_what_is_finished_was_appended(
    new_recorder: NewRecorder, failed: Callable[..., Row], store: Store
) -> None:
    recorder = new_recorder(share=0.5, at_least=3)
    recorder.add([failed(number, error_type="store_error") for number in (0, 1)])
    recorder.tick()
    recorder.add([failed(2, error_type="store_error")])
    with pytest.raises(TooManyFailuresError, match=r"3 of 3 rows with a usable photo failed.*store_error \(3\)"):
        recorder.tick()
    assert visible(store) == 3


@pytest.mark.parametrize("kind", ["empty_photo", "no_product_found", "photo_changed", "photo_missing"])
def test_photos_that_cannot_be_used_end_no_run(
    new_recorder: NewRecorder, failed: Callable[..., Row], made: Callable[[int], Row], kind: str
) -> None:
    recorder = new_recorder(share=0.5, at_least=2)
    recorder.add([failed(number, error_type=kind) for number in range(12)])
    recorder.tick()
    recorder.add([made(20), made(21), failed(22, error_type="store_error")])
    recorder.tick()
    assert recorder.snapshot() == {"ok": 2, "failed": 13}


@pytest.mark.parametrize(
    ("status", "kind"),
    [("failed", "store_error"), ("failed", "out_of_memory"), ("failed", "KeyError"), ("quarantined", "worker_died")],
)
def test_faults_of_the_system_end_a_run_that_also_has_bad_photos(
    new_recorder: NewRecorder, failed: Callable[..., Row], made: Callable[[int], Row], status: Status, kind: str
) -> None:
    recorder = new_recorder(share=0.5, at_least=3)
    recorder.add([failed(number, error_type="empty_photo") for number in range(12)])
    ends = [replace(failed(number, error_type=kind), status=status) for number in (21, 22)]
    recorder.add([made(20), ends[0]])
    recorder.tick()
    recorder.add([ends[1]])
    with pytest.raises(TooManyFailuresError, match=rf"2 of 3 rows .*{kind} \(2\)"):
        recorder.tick()


def test_the_snapshot_counts_by_status_and_is_a_copy(new_recorder: NewRecorder, failed: Callable[..., Row]) -> None:
    recorder = new_recorder()
    before = recorder.snapshot()
    recorder.add([failed(0), failed(1)])
    assert (before.total(), recorder.snapshot()) == (0, {"failed": 2})


def test_a_long_run_compacts_as_it_goes_and_when_it_ends(
    new_recorder: NewRecorder, failed: Callable[..., Row], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPACT_EVERY", 3)
    recorder = new_recorder(rows=1)
    files = []
    for number in range(7):
        recorder.add([failed(number)])
        delta = ManifestTable(store).delta
        assert delta is not None
        files.append(len(delta.file_uris()))
    assert files == [1, 2, 1, 2, 3, 1, 2]
    recorder.close()
    assert [version.operation for version in history(store)][:2] == ["OPTIMIZE", "WRITE"]
    assert visible(store) == 7


def test_a_short_run_leaves_its_files(new_recorder: NewRecorder, failed: Callable[..., Row], store: Store) -> None:
    recorder = new_recorder(rows=1)
    recorder.add([failed(0)])
    recorder.add([failed(1)])
    recorder.close()
    assert "OPTIMIZE" not in {version.operation for version in history(store)}


def test_a_compaction_that_fails_does_not_fail_the_run(
    new_recorder: NewRecorder,
    failed: Callable[..., Row],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def lose(*_: object, **__: object) -> None:
        raise StoreError("another compaction was faster")

    monkeypatch.setattr(module, "COMPACT_EVERY", 1)
    monkeypatch.setattr(module, "compact", lose)
    recorder = new_recorder()
    recorder.add([failed(0)])
    recorder.close()
    assert visible(store) == 1
    assert "another compaction was faster" in caplog.text
