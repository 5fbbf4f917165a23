"""The loop against real Ray actors that misbehave on purpose: rows are strings that say what they do to their actor."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray

from flows.driver.batch_sizes import BatchSizes
from flows.driver.dispatch import Dispatch, Limits, Refusal
from flows.driver.endings import NoWorkersLeftError
from flows.driver.schedule import Batch, Schedule
from pinco.generation.faults import AcceleratorFaultError, DeviceMemoryError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_running")]

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file


class Preparer:
    def __init__(self, notes: Path, start_error: str | None = None) -> None:
        deaths = {None: 0, "dies twice": 2, "dies": 100}[start_error]
        for number in range(deaths):
            with contextlib.suppress(FileExistsError):
                (notes / f"death-{number}").touch(exist_ok=False)
                os._exit(1)

    def prepare(self, rows: Sequence[str]) -> tuple[str, str]:
        if rows[0] == "broken photo":
            raise ValueError("the photo is empty")
        if rows[0] == "bomb photo":
            os._exit(1)
        if rows[0] == "sticky photo":
            time.sleep(60)
        return "prepared", "canvas"


class Generator:
    """Answers (row, attempts, rows in the batch); misbehaves where a row says so, once per name for "once" rows."""

    def __init__(self, notes: Path, load_error: str | None = None) -> None:
        self.notes, self.load_error = notes, load_error

    def load(self) -> str:
        if self.load_error == "config":
            raise ValueError("the adapter belongs to another backbone")
        if self.load_error == "dies":
            os._exit(1)
        return "placement: resident"

    def first_time(self, name: str) -> bool:
        mark = self.notes / name
        seen = mark.exists()
        mark.touch()
        return not seen

    def generate(self, rows: Sequence[str], canvas: str, attempts: int) -> list[Any]:
        assert canvas == "canvas"
        if "kills" in rows or ("kills once" in rows and self.first_time("kills once")):
            os._exit(1)
        if "faults once" in rows and self.first_time("faults once"):
            raise AcceleratorFaultError("CUDA error: an illegal memory access was encountered")
        if ("big" in rows and len(rows) > 1) or len(rows) > 6:
            with (self.notes / "too large").open("a") as notes:
                notes.write(f"{len(rows)}\n")
            raise DeviceMemoryError("tried to allocate 20 GiB")
        if "finishes slowly" in rows:
            time.sleep(3)
        if "kills later" in rows:
            time.sleep(1)
            os._exit(1)
        if "raises" in rows:
            raise KeyError("a bug")
        if "hangs once" in rows and self.first_time("hangs once"):
            time.sleep(60)
        return [(row, attempts, len(rows)) for row in rows]


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_batches(
        *products: list[tuple[str, ...]],
        lanes: int = 1,
        load_error: str | None = None,
        overlap: bool = False,
        sizes: BatchSizes | None = None,
        said: list[str] | None = None,
        start_error: str | None = None,
        **limits: Any,
    ) -> dict[str, Any]:
        results: list[Any] = []
        schedule = Schedule(
            [[Batch(rows) for rows in batches] for batches in products],
            lanes,
            window_rows=16,
            overlap=overlap,
            sizes=sizes,
        )
        owned = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2 if overlap else 1}
        Dispatch(
            schedule,
            lanes=lanes,
            make_preparer=lambda: ray.remote(num_cpus=0)(Preparer).remote(tmp_path, start_error),
            make_generator=lambda: ray.remote(**owned)(Generator).remote(tmp_path, load_error),
            refuse=lambda row, refusal: (row, refusal, 0),
            deliver=results.extend,
            loaded=(said if said is not None else []).append,
            limits=Limits(poll_seconds=0.2, **limits),
        ).run()
        assert len(results) == len({row for row, _, _ in results}), "a row was delivered twice"
        return {row: (answer, size) for row, answer, size in results}

    return run_batches


def test_a_row_that_kills_every_actor_is_quarantined_alone(run: Run) -> None:
    ended = run([("a", "kills", "b"), ("c", "d")], [("e", "f")], lanes=2)
    refusal, _ = ended.pop("kills")
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.attempts, refusal.kills) == ("quarantined", 3, 2)
    assert set(ended) == {"a", "b", "c", "d", "e", "f"}
    assert not any(isinstance(answer, Refusal) for answer, _ in ended.values())
    assert ended["c"] == (1, 2), "what stood behind the killer keeps its batch and is not marked"


def test_an_actor_lost_once_costs_nobody_its_image(run: Run) -> None:
    ended = run([("kills once",), ("a",)], [("faults once",), ("b",)])
    assert {row: answer for row, (answer, _) in ended.items()} == {"kills once": 2, "a": 1, "faults once": 2, "b": 1}


def test_out_of_memory_halves_the_batch(run: Run) -> None:
    ended = run([("big", "a", "b", "c")])
    assert {row: size for row, (_, size) in ended.items()} == {"big": 1, "a": 1, "b": 2, "c": 2}


def test_batches_grow_to_what_memory_holds_and_stay_there(run: Run, tmp_path: Path) -> None:
    """Six rows fit, and the first batch has two. What does not fit is tried by the two that were asked by then."""
    products = [[tuple(f"{product}.{row}" for row in range(16))] for product in range(3)]
    ended = run(*products, sizes=BatchSizes(2, 32))
    assert (tmp_path / "too large").read_text() in ("8\n", "8\n8\n")
    assert {size for _, size in ended.values()} == {2, 4}
    assert [size for row, (_, size) in ended.items() if row.startswith("2.")] == [4] * 16


def test_with_overlap_a_killer_marks_no_batch_that_is_finished_beside_it(run: Run) -> None:
    ended = run([("finishes slowly",), ("kills later",), ("a",)], overlap=True)
    refusal, _ = ended.pop("kills later")
    assert (refusal.status, refusal.kills) == ("quarantined", 2)
    assert {row: isinstance(answer, Refusal) for row, (answer, _) in ended.items()} == {
        "finishes slowly": False,
        "a": False,
    }


def test_with_overlap_answers_keep_their_order_and_count(run: Run) -> None:
    ended = run([("finishes slowly", "a"), ("b", "c"), ("d",)], [("e",)], overlap=True)
    assert [row for row in ended] == ["finishes slowly", "a", "b", "c", "d", "e"]
    assert {answer for answer, _ in ended.values()} == {1}


def test_what_an_actor_says_when_it_is_loaded_is_handed_on(run: Run) -> None:
    said: list[str] = []
    run([("a",)], said=said)
    assert said == ["placement: resident"]


def test_a_row_that_raises_fails_alone(run: Run) -> None:
    ended = run([("a", "raises", "b")])
    refusal, _ = ended.pop("raises")
    assert refusal.status == "failed" and isinstance(refusal.error, KeyError)
    assert {row: answer for row, (answer, _) in ended.items()} == {"a": 2, "b": 2}


def test_a_broken_photo_fails_its_rows_and_a_fatal_one_is_quarantined(run: Run) -> None:
    ended = run([("broken photo", "a")], [("bomb photo",)], [("b",)])
    assert [ended[row][0].status for row in ("broken photo", "a", "bomb photo")] == ["failed", "failed", "quarantined"]
    assert str(ended["a"][0].error) == "the photo is empty"
    assert ended["b"][0] == 1


def test_a_suspected_photo_is_asked_alone_so_that_no_other_answers_are_lost_with_its_actor(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ask = [], Dispatch._ask_to_prepare

    def note(preparer: Any, lane: int, batch: Batch[str]) -> None:
        asked.append((batch.rows[0], [call.batch.rows[0] for call in preparer.calls]))
        ask(preparer, lane, batch)

    monkeypatch.setattr(Dispatch, "_ask_to_prepare", staticmethod(note))
    ended = run([("bomb photo",)], [("a",)], [("b",)])
    alone = [("bomb photo", []), ("a", [])]
    assert asked == [alone[0], ("a", ["bomb photo"]), alone[0], *alone, ("b", ["a"])]
    assert (ended["a"][0], ended["b"][0], ended["bomb photo"][0].kills) == (1, 1, 2)


def test_no_photo_is_suspected_when_a_preprocessing_actor_dies_before_it_is_up(run: Run) -> None:
    ended = run([("a",)], [("bomb photo",)], start_error="dies twice")
    assert (ended["a"][0], ended["bomb photo"][0].kills) == (1, 2)


def test_preprocessing_actors_that_cannot_start_end_the_run_and_blame_no_photo(run: Run) -> None:
    with pytest.raises(NoWorkersLeftError, match="no preprocessing actor could be started"):
        run([("a",)], start_error="dies", start_failures=2)


def test_one_preprocessing_actor_is_enough(run: Run) -> None:
    ended = run([("a",)], [("bomb photo",)], start_error="dies twice", start_failures=1, preparers=3)
    assert (ended["a"][0], ended["bomb photo"][0].kills) == (1, 2)


def test_a_hung_actor_is_replaced(run: Run) -> None:
    ended = run([("hangs once",), ("a",)], [("sticky photo",)], hang_seconds=12)
    assert (ended["hangs once"][0], ended["a"][0]) == (2, 1)
    assert ended["sticky photo"][0].status == "quarantined"


def test_a_model_that_cannot_be_loaded_ends_the_run_with_its_own_error(run: Run) -> None:
    with pytest.raises(ValueError, match="belongs to another backbone"):
        run([("a",)], load_error="config")


def test_actors_that_die_while_loading_end_the_run(run: Run) -> None:
    with pytest.raises(NoWorkersLeftError, match="no inference actor could be started"):
        run([("a",)], load_error="dies", start_failures=2)
