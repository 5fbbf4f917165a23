"""How commands end: with a sentence instead of a traceback, and with an exit code that scripts can rely on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click
import typer

from flows.driver.endings import NoWorkersLeftError, RayDiedError, RunInterruptedError, TooManyFailuresError
from pinco.catalog.sheet.problems import SheetError
from pinco.errors import PincoError

FAILED = 1
BAD_SHEET = 2
ENDED_EARLY = 3
INTERRUPTED = 130

TRACEBACK = "PINCO_TRACEBACK"
"""Environment variable: set to 1, errors are raised as they are, for a report to the developers."""


@contextmanager
def cli_errors() -> Iterator[None]:
    """Print what goes wrong inside as sentences, and exit with its code."""
    try:
        yield
    except (typer.Exit, click.ClickException, click.Abort):
        raise
    except Exception as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        for line in sentences(error):
            typer.echo(line, err=True)
        raise typer.Exit(exit_code(error)) from None


def sentences(error: Exception) -> list[str]:
    """What a person should read about an error, a line each."""
    if isinstance(error, SheetError):
        count = len(error.errors)
        return [
            *(f"warning: {problem}" for problem in error.warnings),
            *(str(problem) for problem in error.errors),
            f"{count} {'error' if count == 1 else 'errors'} to fix; no images were made.",
        ]
    if isinstance(error, PincoError | OSError | ValueError) and str(error):
        return [str(error)]
    return [
        f"Pinco stopped on an unexpected error ({type(error).__name__}: {error}). What was finished is kept. "
        f"Set {TRACEBACK}=1 to see where it happened, and please report it."
    ]


def exit_code(error: Exception | None) -> int:
    """The exit code for an error; 0 for None: a run that came to its end, whatever became of its rows."""
    if error is None:
        return 0
    if isinstance(error, SheetError):
        return BAD_SHEET
    if isinstance(error, RunInterruptedError):
        return INTERRUPTED
    return ENDED_EARLY if isinstance(error, TooManyFailuresError | NoWorkersLeftError | RayDiedError) else FAILED
