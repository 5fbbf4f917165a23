from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import Result


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("run", "sheet.csv", "--catalog", "photos"), "--store"),
        (("plan", "sheet.csv", "--store", "out"), "--catalog"),
        (("validate", "--catalog", "photos"), "SHEET"),
        (("run", "sheet.csv", "--catalog", "c", "--store", "s", "--limit", "0"), "--limit"),
    ],
)
def test_what_is_missing_or_wrong_is_named(pinco: Callable[..., Result], words: tuple[str, ...], missing: str) -> None:
    done = pinco(*words)
    assert (done.exit_code, missing in done.output) == (2, True)
