"""How commands end: with a sentence instead of a traceback, and with a code that scripts can rely on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError

from flows.driver.endings import NoWorkersLeftError, RunInterruptedError, TooManyFailuresError
from pinco.catalog.manifest.readers import UnknownGenerationError
from pinco.catalog.sheet.channels import ChannelError
from pinco.catalog.sheet.problems import SheetError
from pinco.catalog.store.base import StoreError

FAILED = 1
BAD_SHEET = 2
ENDED_EARLY = 3
INTERRUPTED = 130


@contextmanager
def cli_errors() -> Iterator[None]:
    """Errors that a person can do something about become text and an exit code; everything else stays a traceback."""
    try:
        yield
    except SheetError as errors:
        for problem in errors.warnings:
            typer.echo(f"warning: {problem}", err=True)
        for problem in errors.errors:
            typer.echo(str(problem), err=True)
        typer.echo(f"{len(errors.errors)} to mend; nothing was made.", err=True)
        raise typer.Exit(BAD_SHEET) from None
    except ValidationError as error:
        for found in error.errors():
            place = ".".join(str(part) for part in found["loc"])
            typer.echo(f"settings, {place}: {found['msg']} (found {found['input']!r})", err=True)
        raise typer.Exit(FAILED) from None
    except (StoreError, ChannelError, UnknownGenerationError, FileNotFoundError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None


def exit_code(error: Exception | None) -> int:
    """The code for what ended a run early; 0 for a run that came to its end, whatever its rows came to."""
    if error is None:
        return 0
    if isinstance(error, RunInterruptedError):
        return INTERRUPTED
    return ENDED_EARLY if isinstance(error, TooManyFailuresError | NoWorkersLeftError) else FAILED
