from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinco.catalog.ids.job import Job
from pinco.catalog.store.base import StoreError
from pinco.generation.faults import PhotoChangedError, PhotoMissingError
from pinco.generation.take import RunSpec, Take, canvas_key, failed_row, in_batches
from preprocessing.canvas import Placement
from preprocessing.errors import EmptyPhotoError

NewJob = Callable[..., Job]


def test_a_first_take_has_the_seed_that_was_asked_for(new_job: NewJob) -> None:
    assert Take.first(new_job(seed=7)).seed == 7


def test_another_take_has_another_seed_always_the_same(new_job: NewJob) -> None:
    job = new_job(seed=7)
    assert Take.another(job) == Take.another(job)
    assert Take.another(job).seed != 7
    assert 0 <= Take.another(job).seed < 2**32


def test_a_spec_travels(spec: RunSpec) -> None:
    assert pickle.loads(pickle.dumps(spec)) == spec


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["original", "centre"])), max_size=30),
    rows=st.integers(1, 5),
)
def test_batches_hold_every_take_once_share_a_canvas_and_keep_products_together(
    new_job: NewJob, asked: list[tuple[int, str]], rows: int
) -> None:
    takes = [
        Take.first(new_job(source_uri=f"{photo}.png", placement=Placement(kind), variant=number))  # type: ignore[arg-type]
        for number, (photo, kind) in enumerate(asked)
    ]
    products = in_batches(takes, rows)
    batches = [batch for product in products for batch in product]
    assert sorted(take.job.variant for batch in batches for take in batch) == list(range(len(asked)))
    assert all(len(batch) <= rows and len({canvas_key(take.job) for take in batch}) == 1 for batch in batches)
    photos = [{take.job.source_uri for batch in product for take in batch} for product in products]
    assert all(len(uris) == 1 for uris in photos) and len(set(map(tuple, photos))) == len(photos)


@pytest.mark.parametrize(
    "change", [{"channel": "other"}, {"delivery_size": (97, 96)}, {"placement": Placement("centre")}]
)
def test_what_changes_the_canvas_changes_its_key(new_job: NewJob, change: dict[str, object]) -> None:
    assert canvas_key(new_job()) != canvas_key(new_job(**change))
    assert canvas_key(new_job()) == canvas_key(new_job(prompt="another", seed=5))


@pytest.mark.parametrize(
    ("error", "error_type", "transient"),
    [
        (EmptyPhotoError("The file is empty."), "empty_photo", False),
        (PhotoChangedError("The photo was changed."), "photo_changed", True),
        (PhotoMissingError("The photo was deleted."), "photo_missing", True),
        (StoreError("the bucket does not answer"), "store_error", True),
        (KeyError("x"), "KeyError", False),
    ],
)
def test_a_failed_row_says_why_and_whether_to_try_again(
    new_job: NewJob, error: Exception, error_type: str, transient: bool
) -> None:
    row = failed_row(new_job(), "night", error, attempts=0)
    assert (row.status, row.error_type, row.transient, row.attempts) == ("failed", error_type, transient, 1)
    assert row.error_message


def test_a_quarantined_row_is_left_alone_by_the_next_run(new_job: NewJob) -> None:
    row = failed_row(new_job(), "night", StoreError("gone\nsecond line"), attempts=3, status="quarantined", kills=2)
    assert (row.status, row.transient, row.settled, row.attempts) == ("quarantined", False, True, 3)
    assert "2 workers" in str(row.error_message) and "second line" not in str(row.error_message)
