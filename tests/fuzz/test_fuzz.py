"""No input from outside raises anything but a `PincoError`, or takes longer than five seconds.

`FUZZ_INPUTS=4000 python -m pytest -m fuzz` is the full run, `python -m tests.fuzz` the same with a table.
"""

from __future__ import annotations

import logging
import os

import pytest

from tests.fuzz.run import Target, run
from tests.fuzz.targets import TARGETS

INPUTS = int(os.environ.get("FUZZ_INPUTS", "300"))


@pytest.mark.fuzz
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_input_raises_an_untyped_error_or_hangs(target: Target, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    outcome = run(target, INPUTS)
    assert outcome.inputs == INPUTS
    assert not outcome.failures, "\n".join(outcome.failures[:5])


def test_the_targets_have_names_of_their_own() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)
