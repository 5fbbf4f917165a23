"""Every error of the project is a PincoError with a code of its own, and is named as one."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import flows
import pinco
import preprocessing
from pinco.errors import PincoError, first_line


@pytest.fixture(scope="module")
def kinds() -> list[type[PincoError]]:
    for package in (preprocessing, pinco, flows):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    found: list[type[PincoError]] = []
    waiting: list[type[PincoError]] = [PincoError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    return [kind for kind in found if kind.__module__.partition(".")[0] in ("preprocessing", "pinco", "flows")]


def test_there_are_many(kinds: list[type[PincoError]]) -> None:
    assert len(kinds) > 20


def test_names_end_alike(kinds: list[type[PincoError]]) -> None:
    assert [kind.__name__ for kind in kinds if not kind.__name__.endswith("Error")] == []


def test_no_code_stands_for_two_kinds(kinds: list[type[PincoError]]) -> None:
    public = [kind for kind in kinds if not kind.__name__.startswith("_")]
    assert [kind.__name__ for kind in public if "code" not in vars(kind)] == []
    assert len({kind.code for kind in public}) == len(public)


def test_the_first_line_of_an_error_or_its_type() -> None:
    assert first_line(ValueError("\n the disk is full \nTraceback ...")) == "the disk is full "
    assert first_line(TimeoutError()) == first_line(TimeoutError("  ")) == "TimeoutError"
