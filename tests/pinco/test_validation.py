from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pinco.validation import in_words, is_unknown_name, shown


@dataclass(frozen=True)
class Rules:
    limit: float = 0.5


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int = Field(1, ge=1, lt=9)
    share: float = Field(0.5, gt=0, le=1, allow_inf_nan=False)
    on: bool = True
    mode: Literal["auto", "off"] = "auto"
    name: str = ""
    sections: dict[str, str] = {}
    rules: Rules = Rules()
    sides: tuple[int, int] = (1, 1)

    @field_validator("name")
    @classmethod
    def _no_spaces(cls, name: str) -> str:
        if " " in name:
            raise ValueError("names have no spaces")
        return name


def said(**given: Any) -> tuple[str, bool]:
    with pytest.raises(ValidationError) as caught:
        Model(**given)
    (found,) = caught.value.errors()
    return in_words(found), is_unknown_name(found)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"count": "many"}, "it must be a whole number"),
        ({"count": 1.5}, "it must be a whole number"),
        ({"count": 0}, "it must be at least 1"),
        ({"count": 9}, "it must be below 9"),
        ({"share": "x"}, "it must be a number"),
        ({"share": 0}, "it must be above 0.0"),
        ({"share": 2}, "it must be at most 1.0"),
        ({"share": float("nan")}, "it must be a finite number"),
        ({"on": "perhaps"}, "it must be true or false"),
        ({"mode": "on"}, "it must be 'auto' or 'off'"),
        ({"name": 5}, "it must be text"),
        ({"name": "a b"}, "names have no spaces"),
        ({"sections": 5}, "it must be a section of names and values"),
        ({"rules": 5}, "it must be a section of names and values"),
        ({"sides": 5}, "it must be a list"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(given: dict[str, Any], words: str) -> None:
    assert said(**given) == (words, False)


@pytest.mark.parametrize("given", [{"cuont": 1}, {"rules": {"limt": 1}}])
def test_an_unknown_name_is_told_from_a_wrong_value(given: dict[str, Any]) -> None:
    assert said(**given) == ("there is no such setting", True)


def test_values_are_shown_short_and_on_one_line() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 1000)) == 60
    assert shown(10**5000) == "a value of type int"
