from __future__ import annotations

import json

import pytest

from pinco.catalog.sheet.problems import (
    Problems,
    SheetError,
    SheetProblem,
    did_you_mean,
    in_order,
    one_of,
    problems_json,
)  # fmt: skip


def test_a_problem_names_its_place_and_the_way_out() -> None:
    problem = SheetProblem(7, "channel", "sqare", "this channel is unknown", "Did you mean 'square'?", "night.csv")
    assert str(problem) == "night.csv, row 7, column channel: this channel is unknown. Did you mean 'square'?"
    assert str(SheetProblem(None, None, None, "the sheet has no rows")) == "sheet: the sheet has no rows"


def test_errors_are_sorted_by_row_without_repeats() -> None:
    late, early, whole = (SheetProblem(row, None, None, "wrong") for row in (9, 2, None))
    assert in_order([late, early, late, whole]) == [whole, early, late]
    errors = SheetError([late, early])
    assert errors.errors == [early, late]
    assert str(errors).splitlines() == [str(early), str(late)]


def test_problems_are_collected_with_their_file() -> None:
    problems = Problems("a.csv")
    problems.error("bad", row=2, column="n", value="x", hint="Write 1.")
    problems.warn("odd")
    assert problems.errors == [SheetProblem(2, "n", "x", "bad", "Write 1.", "a.csv")]
    assert problems.warnings == [SheetProblem(None, None, None, "odd", None, "a.csv")]


def test_json_for_programs() -> None:
    error = SheetProblem(2, "n", "ä", "bad", None, "a.csv")
    report = json.loads(problems_json([error], []))
    assert report == {
        "valid": False,
        "errors": [
            {"row": 2, "column": "n", "value": "ä", "message": "bad", "suggestion": None, "file": "a.csv"},
        ],
        "warnings": [],
    }
    assert json.loads(problems_json([], [error]))["valid"] is True


@pytest.mark.parametrize(
    ("value", "hint"),
    [("sqare", "Did you mean 'square'?"), ("SQUARE", "Did you mean 'square'?"), ("xyz", "")],
)
def test_the_closest_option_is_suggested(value: str, hint: str) -> None:
    assert did_you_mean(value, ["source", "square"]) == hint


def test_options_are_listed_when_there_are_few() -> None:
    assert one_of([]) == ""
    assert one_of(["b", "a"]) == "Possible are a, b."
    assert one_of("abcdef", most=2) == "Possible are a, b and 4 more."


def test_endless_cells_are_shortened_and_compared_with_nothing() -> None:
    problems = Problems("a.csv")
    problems.error("bad", row=2, column="c" * 100_000, value="v" * 100_000)
    (error,) = problems.errors
    assert error.value == "v" * 200 + " ..."
    assert len(str(error)) < 300
    assert did_you_mean("v" * 100_000, ["v" * 100_001]) == ""
