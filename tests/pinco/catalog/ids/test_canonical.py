from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.catalog.ids.canonical import canonical_json, canonical_sha256

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def test_golden() -> None:
    value = {"b": [1, 1.0, None, True], "a": "Café „Zürich“ \n"}
    assert canonical_json(value) == '{"a":"Café „Zürich“ \\n","b":[1,1.0,null,true]}'
    assert canonical_sha256(value) == "4164ccbb1bf4d6ef531a56c1d476229aeb1d3c7f01a4fc07cc13388fab713b53"


@given(_values)
def test_json_reads_back(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), _scalars))
def test_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_dataclasses_are_mappings_and_tuples_lists() -> None:
    @dataclass(frozen=True)
    class Point:
        y: int
        x: tuple[int, ...]

    assert canonical_json({"p": Point(1, (2, 3))}) == '{"p":{"x":[2,3],"y":1}}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_lacks_is_refused(value: float) -> None:
    with pytest.raises(ValueError):
        canonical_json({"x": value})


def test_unknown_types_are_refused() -> None:
    with pytest.raises(TypeError, match="set has no canonical JSON form"):
        canonical_json({"x": {1, 2}})
