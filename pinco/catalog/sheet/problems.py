"""Errors and warnings of a sheet or a catalog, collected so that its author can fix all of them at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypedDict, Unpack

from pinco.errors import PincoError


@dataclass(frozen=True)
class SheetProblem:
    """One error or warning.

    Attributes:
        row: Number as a spreadsheet shows it (the header is row 1); None = the whole file.
        column: The column's name as the file spells it; None = the whole row.
        value: The cell's text, shortened where it is very long.
        message: What is wrong.
        suggestion: The way out, where one is known.
        file: Address of the sheet or catalog.
    """

    row: int | None
    column: str | None
    value: str | None
    message: str
    suggestion: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        place = [self.file or "sheet"]
        place += [f"row {self.row}"] if self.row is not None else []
        place += [f"column {self.column}"] if self.column else []
        hint = f". {self.suggestion}" if self.suggestion else ""
        return f"{', '.join(place)}: {self.message}{hint}"


_LONGEST = 200
"""Characters of a cell that are shown; longer ones are no misspelling of anything either."""


class SheetError(PincoError):
    """The sheet cannot be run.

    Attributes:
        errors: All errors, in the order of rows.
        warnings: All warnings, in the order of rows.
    """

    code = "invalid_sheet"

    def __init__(self, errors: Iterable[SheetProblem], warnings: Iterable[SheetProblem] = ()) -> None:
        self.errors = in_order(errors)
        self.warnings = in_order(warnings)
        super().__init__("\n".join(str(error) for error in self.errors))


class Place(TypedDict, total=False):
    """Where in a file a problem is, and the way out; see `SheetProblem`."""

    row: int | None
    column: str | None
    value: str | None
    hint: str


@dataclass
class Problems:
    """Collects the problems of one file while it is read.

    Attributes:
        file: Its address, for messages.
        errors: What makes the file unusable.
        warnings: What is probably not meant, but can be run.
    """

    file: str
    errors: list[SheetProblem] = field(default_factory=list)
    warnings: list[SheetProblem] = field(default_factory=list)

    def error(self, message: str, **place: Unpack[Place]) -> None:
        """Add an error."""
        self.errors.append(self._problem(message, **place))

    def warn(self, message: str, **place: Unpack[Place]) -> None:
        """Add a warning."""
        self.warnings.append(self._problem(message, **place))

    def _problem(
        self,
        message: str,
        *,
        row: int | None = None,
        column: str | None = None,
        value: str | None = None,
        hint: str = "",
    ) -> SheetProblem:
        return SheetProblem(row, _shortened(column), _shortened(value), message, hint or None, self.file)


def _shortened(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST else text[:_LONGEST] + " ..."


def in_order(problems: Iterable[SheetProblem]) -> list[SheetProblem]:
    """Without repeats and by row, those of the whole file first."""
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.row or 0)


def problems_json(errors: Sequence[SheetProblem], warnings: Sequence[SheetProblem] = ()) -> str:
    """JSON for programs: `{"valid": bool, "errors": [...], "warnings": [...]}`, each problem with its fields."""
    report = {
        "valid": not errors,
        "errors": [asdict(problem) for problem in errors],
        "warnings": [asdict(problem) for problem in warnings],
    }
    return json.dumps(report, ensure_ascii=False, indent=2)


def did_you_mean(value: str, options: Iterable[str]) -> str:
    """The question "Did you mean ...?" with the closest option, or "" where none is close."""
    if len(value) > _LONGEST:
        return ""
    by_folded = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(value.casefold(), by_folded, n=1, cutoff=0.65)
    return f"Did you mean {by_folded[close[0]]!r}?" if close else ""


def one_of(options: Iterable[str], most: int = 8) -> str:
    """The sentence "Possible are a, b, c." for a short list, and its beginning for a long one."""
    names = sorted(options)
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"Possible are {', '.join(names[:most])}{more}."
