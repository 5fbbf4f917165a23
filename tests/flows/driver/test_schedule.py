from __future__ import annotations

from collections import Counter, deque

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.driver.batch_sizes import BatchSizes
from flows.driver.schedule import Batch, Schedule


def products(sizes: list[list[int]]) -> list[list[Batch[str]]]:
    """Batches of the given numbers of rows, per product; rows are named product.batch.row."""
    return [
        [Batch(tuple(f"{p}.{b}.{r}" for r in range(rows))) for b, rows in enumerate(batches)]
        for p, batches in enumerate(sizes)
    ]


def prepare_all(schedule: Schedule[str]) -> list[tuple[int, Batch[str]]]:
    started = []
    while (task := schedule.next_to_prepare()) is not None:
        started.append(task)
    for lane, batch in started:
        schedule.prepared(lane, batch, canvas="canvas")
    return started


def test_a_product_stays_on_one_lane() -> None:
    schedule = Schedule(products([[2, 2, 2], [2, 2, 2]]), 2, window_rows=6)
    lanes = {}
    for lane, batch in prepare_all(schedule):
        lanes.setdefault(batch.rows[0].split(".")[0], set()).add(lane)
    assert [len(used) for used in lanes.values()] == [1, 1]


def test_no_lane_holds_more_than_its_window() -> None:
    schedule = Schedule(products([[2] * 50]), 1, window_rows=6)
    assert sum(len(batch.rows) for _, batch in prepare_all(schedule)) == 6


def test_an_idle_lane_takes_batches_from_a_busy_one() -> None:
    schedule = Schedule(products([[1] * 8]), 2, window_rows=2)
    assert {lane for lane, _ in prepare_all(schedule)} == {0, 1}


def test_an_idle_lane_takes_a_prepared_batch_at_the_tail() -> None:
    schedule = Schedule(products([[1, 1, 1]]), 2, window_rows=8, in_flight=1)
    for lane, batch in [schedule.next_to_prepare(), schedule.next_to_prepare(), schedule.next_to_prepare()]:
        schedule.prepared(lane, batch, canvas=None)
    assert schedule.next_to_run(0) is not None
    assert schedule.next_to_run(1) is not None


def test_only_the_head_batch_is_marked_when_an_actor_dies() -> None:
    schedule = Schedule(products([[1, 1]]), 1, window_rows=8)
    prepare_all(schedule)
    head, behind = schedule.next_to_run(0), schedule.next_to_run(0)
    assert head is not None and behind is not None
    assert schedule.actor_died(0) is None
    assert (head.suspect, head.attempts) == (True, 1)
    assert (behind.suspect, behind.attempts) == (False, 0)
    assert schedule.next_to_run(0) is behind


def test_a_batch_is_split_before_any_of_its_rows_is_judged() -> None:
    schedule = Schedule(products([[3]]), 1, window_rows=8, lone_kills=1)
    prepare_all(schedule)
    schedule.next_to_run(0)
    assert schedule.actor_died(0) is None
    single = schedule.next_to_run(0)
    assert single is not None and len(single.rows) == 1
    assert schedule.next_to_run(0) is None, "each of its rows is suspected, and asked alone"
    assert schedule.actor_died(0) is single


def test_a_suspect_runs_with_nothing_before_it_and_nothing_behind_it() -> None:
    """An answer is lost with an actor that dies right after it, so that the batch behind may have been the reason."""
    schedule = Schedule(products([[1, 1, 1]]), 1, window_rows=8)
    prepare_all(schedule)
    suspect = schedule.next_to_run(0)
    schedule.next_to_run(0)
    schedule.actor_died(0)
    others = [schedule.next_to_run(0), schedule.next_to_run(0)]
    assert suspect not in others and None not in others
    schedule.finished(0, others[0])
    assert schedule.next_to_run(0) is None, "the suspect waits"
    schedule.finished(0, others[1])
    assert schedule.next_to_run(0) is suspect


def test_nothing_is_asked_behind_a_suspect() -> None:
    schedule = Schedule(products([[1, 1]]), 1, window_rows=1)
    prepare_all(schedule)
    suspect = schedule.next_to_run(0)
    schedule.actor_died(0)
    assert schedule.next_to_run(0) is suspect
    schedule._lanes[0].ready.append(Batch(("late",)))
    assert schedule.next_to_run(0) is None


def test_a_photo_is_given_up_when_it_ended_two_actors_and_others_go_back_unmarked() -> None:
    schedule = Schedule(products([[1], [1]]), 1, window_rows=8)
    (lane, head), (_, behind) = schedule.next_to_prepare(), schedule.next_to_prepare()
    schedule.not_prepared(lane, behind)
    assert schedule.preparer_died(lane, head, alone=False) is False
    assert schedule.preparer_died(lane, head, alone=True) is False
    assert schedule.next_to_prepare() == (lane, behind) and not behind.suspect
    assert schedule.preparer_died(lane, head, alone=True) is True
    assert schedule.unresolved == 1


def test_an_idle_actor_that_dies_marks_nobody() -> None:
    schedule = Schedule(products([[1]]), 1, window_rows=8)
    prepare_all(schedule)
    assert schedule.actor_died(0) is None
    batch = schedule.next_to_run(0)
    assert batch is not None and batch.kills == 0


def test_a_batch_that_does_not_fit_is_halved_until_it_is_one_row() -> None:
    schedule = Schedule(products([[3]]), 1, window_rows=8)
    prepare_all(schedule)
    batch = schedule.next_to_run(0)
    assert batch is not None and schedule.ask_again(0, batch, 2)
    first, second = schedule.next_to_run(0), schedule.next_to_run(0)
    assert first is not None and second is not None
    assert [len(first.rows), len(second.rows)] == [2, 1]
    assert not schedule.ask_again(0, second, 1)


def test_a_lost_canvas_is_prepared_again_a_few_times() -> None:
    schedule = Schedule(products([[1]]), 1, window_rows=8)
    answers = []
    for _ in range(3):
        prepare_all(schedule)
        batch = schedule.next_to_run(0)
        assert batch is not None
        answers.append(schedule.canvas_lost(0, batch, limit=3))
    assert answers == [True, True, False]


def test_the_work_of_a_closed_lane_is_done_by_the_others() -> None:
    schedule = Schedule(products([[1, 1, 1], [1, 1, 1]]), 2, window_rows=2)
    prepare_all(schedule)
    assert schedule.close_lane(0)
    done = 0
    for _ in range(40):
        prepare_all(schedule)
        if (batch := schedule.next_to_run(1)) is not None:
            schedule.finished(1, batch)
            done += len(batch.rows)
    assert (done, schedule.unresolved) == (6, 0)
    assert not schedule.close_lane(1)


FAULTS = st.sampled_from(["ok", "ok", "ok", "die", "memory", "lost", "photo", "preparer", "unasked"])


@settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=5),
    lanes=st.integers(1, 3),
    window=st.integers(1, 8),
    faults=st.lists(FAULTS, max_size=60),
    poison=st.integers(0, 10),
    overlap=st.booleans(),
    first=st.integers(1, 4),
)
def test_every_row_is_resolved_once_whatever_fails(
    sizes: list[list[int]], lanes: int, window: int, faults: list[str], poison: int, overlap: bool, first: int
) -> None:
    batches = products(sizes)
    rows = [row for product in batches for batch in product for row in batch.rows]
    killer = rows[poison] if poison < len(rows) else None
    schedule = Schedule(batches, lanes, window_rows=window, overlap=overlap, sizes=BatchSizes(first, 2 * first))
    ended: Counter[str] = Counter()
    quarantined: list[str] = []
    weather = iter(faults)
    queues: list[deque[Batch[str]]] = [deque() for _ in range(lanes)]
    for _ in range(2000):
        if not schedule.unresolved:
            break
        while (task := schedule.next_to_prepare()) is not None:
            lane, batch = task
            fault = next(weather, "ok")
            if fault == "photo":
                schedule.unprepared(lane, batch)
                ended.update(batch.rows)
            elif fault == "preparer":
                if schedule.preparer_died(lane, batch, alone=True):
                    ended.update(batch.rows)
                else:  # asked again, it goes well
                    schedule.prepared(lane, batch, canvas="canvas")
            elif fault == "unasked":
                schedule.not_prepared(lane, batch)
            else:
                schedule.prepared(lane, batch, canvas="canvas")
        for lane, queue in enumerate(queues):
            while (batch := schedule.next_to_run(lane)) is not None:
                queue.append(batch)
            if not queue:
                continue
            head = queue.popleft()
            fault = "die" if killer in head.rows else next(weather, "ok")
            again = fault == "die"
            if fault == "die":
                queue.clear()
                if (culprit := schedule.actor_died(lane)) is not None:
                    ended.update(culprit.rows)
                    quarantined.extend(culprit.rows)
            elif fault == "memory":
                again = schedule.ask_again(lane, head, schedule.exceeded(head))
            elif fault == "lost":
                again = schedule.canvas_lost(lane, head)
            if not again:
                schedule.fitted(head, 1.0)
                schedule.finished(lane, head)
                ended.update(head.rows)
    assert ended == Counter(rows)
    assert all(row == killer or "die" in faults for row in quarantined)


def test_with_overlap_either_of_two_batches_may_have_ended_the_actor() -> None:
    schedule = Schedule(products([[2, 1, 1]]), 1, window_rows=8, in_flight=3, overlap=True)
    prepare_all(schedule)
    first, second, behind = (schedule.next_to_run(0) for _ in range(3))
    assert first is not None and second is not None and behind is not None
    assert schedule.actor_died(0) is None
    assert (first.kills, second.kills, behind.attempts) == (0, 0, 0)
    assert schedule.next_to_run(0) is behind, "what was not begun keeps its place and is not marked"
    assert schedule.next_to_run(0) is None, "the suspects wait until the actor has nothing else"
    schedule.finished(0, behind)
    rows = []
    while schedule.unresolved:
        alone = schedule.next_to_run(0)
        assert alone is not None and schedule.next_to_run(0) is None
        assert (len(alone.rows), alone.attempts) == (1, 2)
        rows += alone.rows
        schedule.finished(0, alone)
    assert rows == [*first.rows, *second.rows]


def test_with_overlap_a_row_alone_is_judged() -> None:
    schedule = Schedule(products([[1, 1]]), 1, window_rows=8, overlap=True)
    prepare_all(schedule)
    killer = schedule.next_to_run(0)
    assert killer is not None and schedule.next_to_run(0) is not None
    assert schedule.actor_died(0) is None, "two were begun"
    for kills in (1, 2):
        batch = schedule.next_to_run(0)
        while batch is not None and batch.rows != killer.rows:
            schedule.finished(0, batch)
            batch = schedule.next_to_run(0)
        assert batch is not None
        quarantined = schedule.actor_died(0)
        assert batch.kills == kills and (quarantined is batch) == (kills == 2)


def test_with_overlap_an_actor_that_names_the_batch_itself_is_believed() -> None:
    schedule = Schedule(products([[1, 1]]), 1, window_rows=8, overlap=True)
    prepare_all(schedule)
    head, behind = schedule.next_to_run(0), schedule.next_to_run(0)
    assert head is not None and behind is not None
    assert schedule.actor_died(0, by_head=True) is None
    assert (head.kills, behind.kills, behind.attempts, behind.suspect) == (1, 0, 0, False)


def test_batches_are_cut_to_what_fits_and_the_rest_comes_next() -> None:
    sizes = BatchSizes(2, 8)
    schedule = Schedule(products([[9]]), 1, window_rows=9, in_flight=1, sizes=sizes)
    prepare_all(schedule)
    made: list[str] = []
    rows: list[int] = []
    while schedule.unresolved:
        batch = schedule.next_to_run(0)
        assert batch is not None and batch.canvas == "canvas" and batch.attempts == 1
        rows.append(len(batch.rows))
        schedule.fitted(batch, 1.0)
        made += batch.rows
        schedule.finished(0, batch)
    assert rows == [2, 4, 3] and made == [f"0.0.{row}" for row in range(9)]


def test_what_did_not_fit_is_remembered_for_the_next_batches_of_that_size() -> None:
    schedule = Schedule(
        products([[4, 4], [4]]), 1, window_rows=12, in_flight=1, sizes=BatchSizes(4, 4), size_of=lambda row: row[0]
    )
    prepare_all(schedule)
    rows: list[tuple[str, int]] = []
    while schedule.unresolved:
        batch = schedule.next_to_run(0)
        assert batch is not None
        if batch.rows[0].startswith("0") and len(batch.rows) > 2:
            assert schedule.ask_again(0, batch, schedule.exceeded(batch))
            continue
        rows.append((batch.rows[0][0], len(batch.rows)))
        schedule.finished(0, batch)
    assert rows == [("0", 2)] * 4 + [("1", 4)]


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=8),
    killers=st.sets(st.integers(0, 20), max_size=4),
    in_flight=st.integers(1, 3),
)
def test_with_overlap_only_those_that_end_actors_are_quarantined(
    sizes: list[int], killers: set[int], in_flight: int
) -> None:
    """An actor dies while it works on a killer, whether that is its first batch or the one that it began beside it."""
    batches = products([sizes])
    rows = [row for batch in batches[0] for row in batch.rows]
    deadly = {rows[number] for number in killers if number < len(rows)}
    schedule = Schedule(batches, 1, window_rows=4, in_flight=in_flight, overlap=True)
    quarantined: list[str] = []
    running: list[Batch[str]] = []
    for _ in range(2000):
        if not schedule.unresolved:
            break
        prepare_all(schedule)
        while (batch := schedule.next_to_run(0)) is not None:
            running.append(batch)
        begun = [row for batch in running[:2] for row in batch.rows]
        if deadly.intersection(begun):
            running.clear()
            if (culprit := schedule.actor_died(0)) is not None:
                quarantined += culprit.rows
        else:
            schedule.finished(0, running.pop(0))
    assert not schedule.unresolved
    assert set(quarantined) == deadly and len(quarantined) == len(deadly)
