from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from flows.commands.show import print_summary
from flows.driver.endings import RunInterruptedError
from flows.driver.run import RunSummary

New = Callable[..., RunSummary]


def test_a_run_in_a_few_lines(summary: New, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary(held=2, dropped=1, adopted=3))
    said = capsys.readouterr().out
    for part in ("Run night: 2 ok, 1 failed (1 were done already)", "store/reports/night.html", "make 9.0 s"):
        assert part in said
    for part in (
        "2 failed permanently",
        "1 of them were finished by another run",
        "3 images of an earlier, interrupted run",
    ):
        assert part in said


def test_nothing_to_make_is_said(summary: New, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary(statuses=Counter(), done_before=4, report=None))
    assert capsys.readouterr().out == "Nothing to make: all 4 of 4 images are done already.\n"


def test_an_early_end_goes_to_the_error_stream(summary: New, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary(error=RunInterruptedError("stopped with 2 images left")))
    assert "stopped with 2 images left" in capsys.readouterr().err
