from __future__ import annotations

import pytest

from flows.commands.errors import ENDED_EARLY, INTERRUPTED, exit_code
from flows.driver.endings import Interrupted, NoWorkersLeft, TooManyFailures


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (TooManyFailures("9 of 10"), ENDED_EARLY),
        (NoWorkersLeft("no GPU"), ENDED_EARLY),
        (Interrupted("stopped"), INTERRUPTED),
    ],
)
def test_every_ending_has_its_exit_code(ending: Exception, code: int) -> None:
    assert exit_code(ending) == code
