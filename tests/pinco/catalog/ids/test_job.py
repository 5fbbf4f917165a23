from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.catalog.ids.canonical import canonical_json
from pinco.catalog.ids.job import MAX_SEED, Ask, Job
from preprocessing.canvas import Placement

MakeJob = Callable[..., Job]

_sizes = st.tuples(st.integers(1, 9999), st.integers(1, 9999))
_placements = st.builds(
    Placement,
    st.sampled_from(["original", "centre", "bottom"]),
    st.none() | st.floats(0.01, 1.0),
    st.floats(0.0, 0.49),
)
_asked = st.fixed_dictionaries(
    {
        "sku": st.text(min_size=1),
        "source_sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
        "prompt": st.text(min_size=1),
        "negative": st.none() | st.text(min_size=1),
        "channel": st.text(min_size=1),
        "placement": _placements,
        "working_size": _sizes,
        "delivery_size": _sizes,
        "variant": st.integers(0, 99),
        "seed": st.integers(0, MAX_SEED),
    }
)


def test_golden_id(make_job: MakeJob) -> None:
    assert make_job().job_id == "c954d988103495685801c60e3221f97ef13a3fc45cc12e54a6b82875b210b470"


def test_golden_derived_seed(make_job: MakeJob) -> None:
    assert make_job(seed=None).seed == 2746351039


@given(_asked, _asked, st.sampled_from([field.name for field in fields(Ask)]))
def test_any_field_changes_the_id(one: dict[str, object], other: dict[str, object], name: str) -> None:
    before, after = Ask(**one), Ask(**{**one, name: other[name]})  # type: ignore[arg-type]
    assert (before.job_id == after.job_id) == (one[name] == other[name])


@given(_asked, _asked, st.sampled_from([field.name for field in fields(Ask) if field.name != "seed"]))
def test_any_other_field_changes_the_derived_seed(one: dict[str, object], other: dict[str, object], name: str) -> None:
    before, after = Ask(**one), Ask(**{**one, name: other[name]})  # type: ignore[arg-type]
    assert (before.derived_seed == after.derived_seed) == (one[name] == other[name])


@given(_asked, st.integers(0, MAX_SEED))
def test_the_derived_seed_does_not_hang_on_the_seed(asked: dict[str, object], seed: int) -> None:
    assert Ask(**asked).derived_seed == Ask(**{**asked, "seed": seed}).derived_seed  # type: ignore[arg-type]


@given(_asked)
def test_an_ask_survives_json(asked: dict[str, object]) -> None:
    ask = Ask(**asked)  # type: ignore[arg-type]
    again = Ask.from_dict(json.loads(canonical_json(ask.asked())))
    assert again == ask
    assert again.job_id == ask.job_id


def test_where_a_job_came_from_does_not_matter(make_job: MakeJob) -> None:
    assert make_job(row=2, source_uri="/a").job_id == make_job(row=9, source_uri="s3://b/c").job_id


def test_spellings_of_one_value_are_one_job(make_job: MakeJob) -> None:
    whole = make_job(placement=Placement("centre", 1, 0), working_size=[64, 64])
    assert whole.job_id == make_job(placement=Placement("centre", 1.0, 0.0), working_size=(64, 64)).job_id


def test_an_empty_seed_is_derived_and_a_given_one_kept(make_job: MakeJob) -> None:
    job = make_job(seed=None)
    assert job.seed == job.derived_seed
    assert job.job_id == make_job(seed=job.seed).job_id
    assert make_job(seed=0).seed == 0
    assert make_job(seed=None, variant=1).seed != job.seed


def test_the_ask_of_a_job_has_its_id(make_job: MakeJob) -> None:
    job = make_job()
    assert type(job.ask) is Ask
    assert job.ask.job_id == job.job_id


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_impossible_seeds_are_refused(make_job: MakeJob, seed: int) -> None:
    with pytest.raises(ValueError, match="seed must be between"):
        make_job(seed=seed)
