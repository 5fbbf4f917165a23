from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.plan.estimate import START_UP, Estimate, estimate_time, in_words
from pinco.catalog.store.base import Store

BEGAN = datetime(2026, 5, 1, 6, tzinfo=UTC)
RUN = "20260501T060000-abcdef"


def test_without_history_there_is_no_estimate(store: Store) -> None:
    estimate = estimate_time(ManifestTable(store), 5)
    assert estimate == Estimate(5, None, START_UP, 0)
    assert estimate.wall_seconds(1) is None


def test_the_median_of_earlier_images_counts(folder_store: Store, make_row: Callable[..., Row]) -> None:
    rows = [make_row(number, seconds=seconds) for number, seconds in enumerate([1.0, 3.0, 100.0])]
    table = ManifestTable(folder_store)
    table.append([*rows, make_row(9, "failed")], run_id="run-a", batch=1, base=0)
    assert estimate_time(table, 10) == Estimate(10, 30.0, START_UP, 3)
    assert estimate_time(table, 10).wall_seconds(2) == START_UP + 15.0
    assert estimate_time(table, 0).seconds == 0.0


@pytest.mark.parametrize(
    ("finished_after", "start_up"), [(9.0, 7.0), (1.0, START_UP), (9000.0, START_UP)], ids=["run", "clock", "pause"]
)
def test_the_start_is_that_of_the_last_run(
    folder_store: Store, make_row: Callable[..., Row], finished_after: float, start_up: float
) -> None:
    def made(number: int, seconds: float) -> Row:
        return make_row(number, run_id=RUN, seconds=2.0, created_at=BEGAN + timedelta(seconds=seconds))

    table = ManifestTable(folder_store)
    table.append([make_row(0, seconds=2.0)], run_id="run-a", batch=1, base=0)
    rows = [made(1, finished_after + 4), made(2, finished_after), made(3, finished_after + 2)]
    table.append(rows, run_id=RUN, batch=1, base=0)
    assert estimate_time(table, 1).start_up == start_up


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (11.4, "11 seconds"),
        (119.4, "119 seconds"),
        (120.0, "2 minutes"),
        (7000.0, "117 minutes"),
        (7200.0, "2.0 hours"),
        (86400.0, "24.0 hours"),
    ],
)
def test_durations_are_as_precise_as_estimates_can_be(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
