from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.catalog.sheet.cells import (
    CellError,
    parse_choices,
    parse_expand,
    parse_placement,
    parse_scale,
    parse_seed,
    parse_size,
    parse_variants,
)  # fmt: skip

PARSERS = [parse_choices, parse_expand, parse_placement, parse_scale, parse_seed, parse_size, parse_variants]


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("wood", ("wood",)),
        ("wood | sand|snow", ("wood", "sand", "snow")),
        (r"a \| b | c", ("a | b", "c")),
        ("red, green", ("red, green",)),
    ],
)
def test_choices(text: str, choices: tuple[str, ...]) -> None:
    assert parse_choices(text) == choices


@given(st.lists(st.text().map(str.strip).filter(lambda text: text and "\\" not in text), min_size=1))
def test_written_choices_are_read_back(values: list[str]) -> None:
    assert parse_choices(" | ".join(value.replace("|", r"\|") for value in values)) == tuple(values)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("800x600", (800, 600)),
        ("800 X 600 px", (800, 600)),
        ("800\u00d7600", (800, 600)),
        ("512", (512, 512)),
        ("Source", "source"),
    ],
)
def test_sizes(text: str, size: object) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "scale"), [("0.6", 0.6), ("0,6", 0.6), (".5", 0.5), ("60%", 0.6), ("1", 1.0), ("100 %", 1.0)]
)
def test_scales(text: str, scale: float) -> None:
    assert parse_scale(text) == scale


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("100", 100), ("3.0", 3), ("3,00", 3)])
def test_variants(text: str, number: int) -> None:
    assert parse_variants(text) == number


def test_seeds() -> None:
    assert parse_seed("0") == 0
    assert parse_seed("4294967295") == 2**32 - 1


def test_placements_and_expands() -> None:
    assert [parse_placement(text) for text in ("Original", "centre", "CENTER", "bottom")] == [
        "original",
        "centre",
        "centre",
        "bottom",
    ]
    assert [parse_expand(text) for text in ("ZIP", "cross")] == ["zip", "cross"]


@pytest.mark.parametrize(
    ("parse", "text", "message", "hint"),
    [
        (parse_choices, "a | | b", "empty value", "single bars"),
        (parse_choices, "a |", "empty value", "single bars"),
        (parse_size, "big", "not a size", "1024x768"),
        (parse_size, "32x512", "between 64 and 8192", ""),
        (parse_size, "512x9000", "between 64 and 8192", ""),
        (parse_scale, "half", "not a number", "0.6"),
        (parse_scale, "0", "above 0", ""),
        (parse_scale, "60", "above 0", "Did you mean 60%?"),
        (parse_scale, "120%", "above 0", ""),
        (parse_variants, "0", "between 1 and 100", ""),
        (parse_variants, "101", "between 1 and 100", ""),
        (parse_variants, "2.5", "not a whole number", ""),
        (parse_seed, "4294967296", "between 0 and", "empty"),
        (parse_seed, "-1", "not a whole number", ""),
        (parse_placement, "botom", "original, centre or bottom", "Did you mean 'bottom'?"),
        (parse_expand, "both", "cross or zip", ""),
    ],
)
def test_cells_without_a_meaning_are_refused_with_a_way_out(
    parse: Callable[[str], object], text: str, message: str, hint: str
) -> None:
    with pytest.raises(CellError, match=message) as caught:
        parse(text)
    assert hint in caught.value.hint


@given(st.sampled_from(PARSERS), st.text())
def test_any_text_is_read_or_refused(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except CellError as error:
        assert str(error)


@pytest.mark.parametrize("parse", [parse_scale, parse_size, parse_seed, parse_variants, parse_placement, parse_expand])
@pytest.mark.parametrize("text", ["9" * 5000, "0" * 100_000 + "z", "1" + " " * 100_000 + "z", "a" * 100_000])
def test_endless_cells_are_refused_at_once(parse: Callable[[str], object], text: str) -> None:
    began = time.process_time()
    with pytest.raises(CellError):
        parse(text)
    assert time.process_time() - began < 1
