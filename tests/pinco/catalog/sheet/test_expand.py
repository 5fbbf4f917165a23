from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.catalog.sheet.expand import MAX_PROMPTS, ExpandError, expand

_lists = st.dictionaries(st.sampled_from("abcd"), st.lists(st.text(max_size=3), min_size=1, max_size=4).map(tuple))


def test_cross_takes_every_value_with_every_other() -> None:
    assert expand({"a": ("1", "2"), "b": ("x", "y")}, "cross") == [
        {"a": "1", "b": "x"},
        {"a": "1", "b": "y"},
        {"a": "2", "b": "x"},
        {"a": "2", "b": "y"},
    ]


def test_zip_takes_values_in_step_and_single_values_with_all() -> None:
    assert expand({"a": ("1", "2"), "b": ("x", "y"), "c": ("z",)}, "zip") == [
        {"a": "1", "b": "x", "c": "z"},
        {"a": "2", "b": "y", "c": "z"},
    ]


@given(_lists)
def test_cross_has_as_many_as_the_product(variables: dict[str, tuple[str, ...]]) -> None:
    found = expand(variables, "cross")
    assert len(found) == math.prod(len(values) for values in variables.values())
    assert all(values.keys() == variables.keys() for values in found)


def test_without_variables_there_is_one_prompt() -> None:
    assert expand({}, "cross") == expand({}, "zip") == [{}]


def test_lists_of_different_length_cannot_be_zipped() -> None:
    with pytest.raises(ExpandError, match="a has 2, b has 3 values"):
        expand({"a": ("1", "2"), "b": ("x", "y", "z")}, "zip")


def test_too_many_prompts_are_refused_before_they_are_made() -> None:
    with pytest.raises(ExpandError, match=f"at most {MAX_PROMPTS}"):
        expand({name: tuple("0123456789" * 10) for name in "abcdefgh"}, "cross")


def test_too_many_zipped_prompts_are_refused() -> None:
    with pytest.raises(ExpandError, match=f"at most {MAX_PROMPTS}"):
        expand({"a": tuple("x" * (MAX_PROMPTS + 1))}, "zip")
