from __future__ import annotations

import pytest
import typer

from flows.commands.errors import cli_errors, exit_code
from flows.driver.endings import NoWorkersLeftError, RunInterruptedError, TooManyFailuresError
from pinco.catalog.sheet.channels import ChannelError
from pinco.catalog.sheet.problems import SheetError, SheetProblem
from pinco.catalog.store.base import StoreError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SheetError([SheetProblem(4, "scale", "7", "scale must be at most 1")]), 2),
        (StoreError("the bucket is not there"), 1),
        (ChannelError("channel 'x', size: no size"), 1),
        (FileNotFoundError("there is no backbone at x"), 1),
    ],
)
def test_what_a_person_can_mend_is_a_sentence(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, cli_errors():
        raise error
    assert ended.value.exit_code == code
    assert str(error) in capsys.readouterr().err


def test_a_bug_stays_a_traceback() -> None:
    with pytest.raises(KeyError), cli_errors():
        raise KeyError("a bug")


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (RunInterruptedError(), 130), (NoWorkersLeftError(), 3), (TooManyFailuresError(), 3), (OSError(), 1)],
)
def test_exit_codes(error: Exception | None, code: int) -> None:
    assert exit_code(error) == code
