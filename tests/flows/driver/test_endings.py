from __future__ import annotations

import pytest

from flows.commands.errors import ENDED_EARLY, INTERRUPTED, exit_code
from flows.driver.endings import NoWorkersLeftError, RayDiedError, RunInterruptedError, TooManyFailuresError


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (TooManyFailuresError("9 of 10"), ENDED_EARLY),
        (NoWorkersLeftError("no GPU"), ENDED_EARLY),
        (RayDiedError("the raylet"), ENDED_EARLY),
        (RunInterruptedError("stopped"), INTERRUPTED),
    ],
)
def test_every_ending_has_its_exit_code(ending: Exception, code: int) -> None:
    assert exit_code(ending) == code
