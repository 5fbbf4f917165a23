from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flows.driver.batch_sizes import BatchSizes

LARGE, SMALL = (2048, 2048), (512, 512)


def test_batches_grow_while_they_fit_up_to_the_most() -> None:
    sizes = BatchSizes(4, 20)
    seen = []
    for _ in range(4):
        seen.append(sizes.limit(SMALL))
        sizes.fitted(SMALL, sizes.limit(SMALL), 1.0)
    assert seen == [4, 8, 16, 20]


def test_a_batch_that_was_smaller_anyway_shows_nothing() -> None:
    sizes = BatchSizes(4, 32)
    sizes.fitted(SMALL, 3, 1.0)
    assert sizes.limit(SMALL) == 4


def test_what_did_not_fit_is_halved_and_remembered_for_its_size_alone() -> None:
    sizes = BatchSizes(4, 32)
    sizes.fitted(LARGE, 4, 1.0)
    assert sizes.exceeded(LARGE, 8) == 4
    sizes.fitted(LARGE, 4, 1.0)
    assert (sizes.limit(LARGE), sizes.limit(SMALL)) == (4, 4)
    assert [sizes.exceeded(LARGE, rows) for rows in (4, 2, 1)] == [2, 1, 1]
    sizes.fitted(SMALL, 4, 1.0)
    assert (sizes.limit(LARGE), sizes.limit(SMALL)) == (1, 8)


def test_on_a_cpu_batches_do_not_grow() -> None:
    sizes = BatchSizes(4, 4)
    sizes.fitted(SMALL, 4, 1.0)
    assert sizes.limit(SMALL) == 4
    assert BatchSizes(4, 2).limit(SMALL) == 4, "what is set for the beginning holds"


def test_a_batch_never_grows_so_long_that_its_actor_counts_as_dead() -> None:
    sizes = BatchSizes(4, 32, hang_seconds=800)
    sizes.fitted(SMALL, 4, 101)
    assert sizes.limit(SMALL) == 4
    sizes.fitted(SMALL, 4, 99)
    assert sizes.limit(SMALL) == 8


@given(memory=st.integers(1, 40), first=st.integers(1, 8), most=st.integers(1, 64), images=st.integers(1, 200))
def test_every_image_is_made_and_few_attempts_are_lost(memory: int, first: int, most: int, images: int) -> None:
    """A device that holds `memory` images; all of one size."""
    sizes, left, lost = BatchSizes(first, most), images, 0
    while left:
        rows = min(left, sizes.limit(SMALL))
        assert rows <= max(first, most)
        if rows > memory:
            assert sizes.exceeded(SMALL, rows) < rows
            lost += 1
        else:
            sizes.fitted(SMALL, rows, 1.0)
            left -= rows
    assert lost <= 4, "it halves from at most 8, or from the first step of the growth that was too large"
