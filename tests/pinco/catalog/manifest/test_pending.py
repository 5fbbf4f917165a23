from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.catalog.manifest.pending import image_of, is_pending_key, keep_image, pending_key, row_from_json, row_to_json
from pinco.catalog.manifest.schema import Row
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]


@given(
    text=st.text(),
    seconds=st.none() | st.floats(allow_nan=False),
    not_scored=st.lists(st.text(), max_size=3),
    at=st.datetimes(timezones=st.timezones()),
)
def test_a_row_survives_its_json(
    make_row: MakeRow, text: str, seconds: float, not_scored: list[str], at: object
) -> None:
    row = make_row(1, prompt=text, seconds=seconds, not_scored=tuple(not_scored), created_at=at)
    assert row_from_json(row_to_json(row)) == row
    assert "\n" not in row_to_json(row)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "5", '{"created_at": 1}', '{"created_at": "yesterday"}'])
def test_what_is_no_row_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is not a row that this version of Pinco can read"):
        row_from_json(text)


def test_a_row_of_a_newer_version_is_said(make_row: MakeRow) -> None:
    newer = json.dumps(json.loads(row_to_json(make_row(0))) | {"colour_error": 0.1})
    with pytest.raises(ValueError, match="not a row that this version of Pinco can read"):
        row_from_json(newer)


def test_a_row_lies_beside_its_image_before_the_image_is_there(store: Store, make_row: MakeRow) -> None:
    sha256 = hashlib.sha256(b"image").hexdigest()
    key = f"images/gen-{sha256[:16]}.png"
    row = make_row(0, generation_id="gen", image_uri=store.uri_of(key), image_sha256=sha256)
    order: list[str] = []
    put = store.put_if_absent

    def note(key: str, data: bytes, content_type: str = "") -> bool:
        order.append(key)
        return put(key, data, content_type)

    store.put_if_absent = note  # type: ignore[method-assign]
    keep_image(store, row, b"image", "png")
    assert order == [f"_pending/gen-{sha256[:16]}.png.json", key] == [pending_key(key), image_of(order[0])]
    assert (row_from_json(store.get(order[0])), store.get(key)) == (row, b"image")


@pytest.mark.parametrize(
    "change", [{"job_id": 5}, {"sequence": "x"}, {"seed": 2**70}, {"created_at": []}, {"row": "two"}]
)
def test_values_that_no_column_takes_are_no_row(make_row: MakeRow, change: dict[str, object]) -> None:
    text = json.dumps(json.loads(row_to_json(make_row(0))) | change)
    with pytest.raises(ValueError, match="not a row"):
        row_from_json(text)


@pytest.mark.parametrize("text", ["[]", "5", "null", '"x"', "[" * 100_000, "\x00"])
def test_other_json_is_no_row(text: str) -> None:
    with pytest.raises(ValueError, match="not a row"):
        row_from_json(text)


def test_names_of_others_are_told_apart() -> None:
    assert is_pending_key(pending_key("images/gen-0123456789abcdef.jpg"))
    for other in ("_pending/README", "_pending/notes.json", "_pending/a/b.png.json", "images/gen-0123456789abcdef.jpg"):
        assert not is_pending_key(other)
