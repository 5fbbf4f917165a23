from __future__ import annotations

import pytest
import typer

from flows.commands.errors import TRACEBACK, cli_errors, exit_code
from flows.driver.endings import NoWorkersLeftError, RunInterruptedError, TooManyFailuresError
from pinco.catalog.manifest.readers import UnknownGenerationError
from pinco.catalog.sheet.channels import ChannelError
from pinco.catalog.sheet.problems import SheetError, SheetProblem
from pinco.catalog.store.base import StoreError
from pinco.generation.faults import PhotoChangedError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SheetError([SheetProblem(4, "scale", "7", "scale must be at most 1")]), 2),
        (StoreError("the bucket is not there"), 1),
        (ChannelError("channel 'x', size: no size"), 1),
        (UnknownGenerationError("no image has a generation id that begins with '0'"), 1),
        (PhotoChangedError("The photo was changed after this image was planned."), 1),
        (FileNotFoundError("there is no backbone at x"), 1),
        (ValueError("dtype must be float32"), 1),
        (NoWorkersLeftError("no inference actor could be started"), 3),
        (RunInterruptedError("stopped"), 130),
    ],
)
def test_every_error_is_a_sentence(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, cli_errors():
        raise error
    said = capsys.readouterr().err
    assert ended.value.exit_code == code
    assert str(error) in said and "Traceback" not in said


def test_the_number_of_sheet_errors_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (SheetProblem(row, "scale", "7", "scale must be at most 1") for row in (4, 5))
    for problems, said in (([one], "1 error to fix; no images"), ([one, two], "2 errors to fix; no images")):
        with pytest.raises(typer.Exit), cli_errors():
            raise SheetError(problems)
        assert said in capsys.readouterr().err


def test_a_defect_is_said_to_be_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(typer.Exit) as ended, cli_errors():
        raise KeyError("column")
    said = capsys.readouterr().err
    assert ended.value.exit_code == 1
    assert "unexpected error (KeyError: 'column')" in said and TRACEBACK in said
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(KeyError), cli_errors():
        raise KeyError("column")


def test_an_exit_inside_stays_as_it_is() -> None:
    with pytest.raises(typer.Exit) as ended, cli_errors():
        raise typer.Exit(7)
    assert ended.value.exit_code == 7


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (RunInterruptedError(), 130), (NoWorkersLeftError(), 3), (TooManyFailuresError(), 3), (OSError(), 1)],
)
def test_exit_codes(error: Exception | None, code: int) -> None:
    assert exit_code(error) == code
