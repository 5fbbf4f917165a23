from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pinco.catalog.manifest.commits import CommitLog
from pinco.catalog.manifest.orphans import adopt_orphans

from flows.driver.endings import TooManyFailuresError
from flows.driver.recorder import Recorder
from flows.settings import CommitSettings, FailureSettings
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.store.access import open_store

NewRecorder = Callable[..., Recorder]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new_recorder(tmp_path: Path, clock: Clock) -> NewRecorder:
    def make(rows: int = 100, share: float = 1.0, at_least: int = 100, base: int | None = None) -> Recorder:
        log = CommitLog(open_store(str(tmp_path / "store")))
        return Recorder(
            log,
            "night",
            base=log.head if base is None else base,
            commit=CommitSettings(rows=rows, minutes=1),
            failures=FailureSettings(share=share, rows=at_least),
            clock=clock,
        )

    return make


def visible(tmp_path: Path) -> int:
    return len(read_rows(open_store(str(tmp_path / "store"))))


def test_rows_of_a_killed_driver_are_adopted_by_the_next_run(
    new_recorder: NewRecorder, failed: Callable[..., Row], tmp_path: Path, clock: Clock
) -> None:
    recorder = new_recorder()
    recorder.add([failed(0)])
    clock.now = 11
    recorder.tick()
    recorder.add([failed(1)])  # not written yet: made again after a crash
    assert visible(tmp_path) == 0
    adopted = adopt_orphans(CommitLog(open_store(str(tmp_path / "store"))), "next-night")
    assert adopted is not None and adopted.rows == 1
    assert visible(tmp_path) == 1


def test_one_commit_names_all_parts_since_the_last(
    new_recorder: NewRecorder, failed: Callable[..., Row], tmp_path: Path, clock: Clock
) -> None:
    recorder = new_recorder()
    for number, now in enumerate((11, 22, 33)):
        recorder.add([failed(number)])
        clock.now = now
        recorder.tick()
    recorder.commit()
    assert [len(commit.parts) for commit in recorder.commits] == [3]
    assert visible(tmp_path) == 3


def test_rows_become_visible_when_enough_of_them_are_there(
    new_recorder: NewRecorder, failed: Callable[..., Row], tmp_path: Path
) -> None:
    recorder = new_recorder(rows=2)
    recorder.add([failed(0)])
    assert visible(tmp_path) == 0
    recorder.add([failed(1)])
    assert visible(tmp_path) == 2


def test_rows_become_visible_when_it_is_time(
    new_recorder: NewRecorder, failed: Callable[..., Row], tmp_path: Path, clock: Clock
) -> None:
    recorder = new_recorder()
    recorder.add([failed(0)])
    clock.now = 59
    recorder.tick()
    assert visible(tmp_path) == 0
    clock.now = 61
    recorder.tick()
    assert visible(tmp_path) == 1
    assert [commit.batch for commit in recorder.commits] == [1]


def test_nothing_to_commit_makes_no_commit(new_recorder: NewRecorder) -> None:
    recorder = new_recorder()
    recorder.commit()
    assert recorder.commits == []


def test_too_many_failures_are_said_after_what_is_finished_was_committed(
    new_recorder: NewRecorder, failed: Callable[..., Row], tmp_path: Path
) -> None:
    recorder = new_recorder(share=0.5, at_least=3)
    recorder.add([failed(0), failed(1)])
    recorder.tick()
    recorder.add([failed(2)])
    with pytest.raises(TooManyFailuresError, match="3 of 3 rows failed"):
        recorder.tick()
    assert visible(tmp_path) == 3


def test_the_snapshot_counts_by_status_and_is_a_copy(new_recorder: NewRecorder, failed: Callable[..., Row]) -> None:
    recorder = new_recorder()
    before = recorder.snapshot()
    recorder.add([failed(0), failed(1)])
    assert (before.total(), recorder.snapshot()) == (0, {"failed": 2})
