"""Parsing of the sheet's cells: one function per kind of cell, text to value. All raise `CellError`."""

from __future__ import annotations

import re
from typing import Literal, TypeVar

from pinco.catalog.ids.job import MAX_SEED, Size
from pinco.catalog.sheet.problems import did_you_mean
from pinco.errors import PincoError

_T = TypeVar("_T")

MAX_VARIANTS = 100
MAX_NUMBER = 40
"""Characters of a number or a name of a choice; more is a mistake, and slow to take apart."""

MIN_SIDE, MAX_SIDE = 64, 8192

Expand = Literal["cross", "zip"]
PlacementKind = Literal["original", "centre", "bottom"]
_PLACEMENTS: dict[str, PlacementKind] = {
    "original": "original",
    "centre": "centre",
    "center": "centre",
    "bottom": "bottom",
}
_EXPANDS: dict[str, Expand] = {"cross": "cross", "zip": "zip"}


class CellError(PincoError, ValueError):
    """A cell that cannot be understood.

    Attributes:
        hint: The way out, "" where none is known.
    """

    code = "invalid_cell"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def parse_choices(text: str) -> tuple[str, ...]:
    r"""`a | b | c` is a list of three values, any other text a list of one; `\|` is a bar that is part of a value."""
    choices = tuple(part.replace(r"\|", "|").strip() for part in re.split(r"(?<!\\)\|", text))
    if len(choices) > 1 and not all(choices):
        raise CellError(
            "there is an empty value in this list",
            r"Write values with single bars between them: a | b | c. A bar itself is \|.",
        )
    return choices


def parse_variants(text: str) -> int:
    """`n`: how many images of each prompt, 1 to 100."""
    number = _whole_number(text)
    if not 1 <= number <= MAX_VARIANTS:
        raise CellError(f"n must be between 1 and {MAX_VARIANTS}")
    return number


def parse_seed(text: str) -> int:
    """A seed of 32 bits."""
    number = _whole_number(text)
    if not 0 <= number <= MAX_SEED:
        raise CellError(
            f"a seed must be between 0 and {MAX_SEED}",
            "Leave the cell empty for a seed that is derived from the rest of the row.",
        )
    return number


def parse_size(text: str) -> Size | Literal["source"]:
    """`800x600`, `512` for a square, `source` for the photo's own size; in pixels."""
    if text.casefold() == "source":
        return "source"
    match = re.fullmatch(r"(\d+)(?:\s*[x\u00d7*]\s*(\d+))?(?:\s*px)?", text.casefold())
    if not match or len(text) > MAX_NUMBER:
        raise CellError(
            "this is not a size", "Write width x height as in 1024x768, one number for a square, or source."
        )
    size = int(match.group(1)), int(match.group(2) or match.group(1))
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise CellError(f"each side must be between {MIN_SIDE} and {MAX_SIDE} pixels")
    return size


def parse_scale(text: str) -> float:
    """The product's share of the canvas, above 0 and at most 1, from `0.6`, `0,6` or `60%`."""
    match = re.fullmatch(r"(\d*[.,]?\d+)\s*(%?)", text[: MAX_NUMBER + 1])
    if not match or len(text) > MAX_NUMBER:
        raise CellError("this is not a number", "Write the product's share of the canvas, as in 0.6 or 60%.")
    scale = float(match.group(1).replace(",", ".")) / (100 if match.group(2) else 1)
    if not 0 < scale <= 1:
        hint = f"Did you mean {text}%?" if 1 < scale <= 100 and not match.group(2) else ""
        raise CellError("scale must be above 0 and at most 1 (or 100%)", hint)
    return scale


def parse_placement(text: str) -> PlacementKind:
    """`original`, `centre` (or `center`) or `bottom`."""
    return _choice(text, _PLACEMENTS, "a placement is original, centre or bottom")


def parse_expand(text: str) -> Expand:
    """`cross` (every value with every other) or `zip` (first with first, second with second)."""
    return _choice(text, _EXPANDS, "expand is cross or zip")


def _choice(text: str, meanings: dict[str, _T], message: str) -> _T:
    try:
        return meanings[text.casefold()]
    except KeyError:
        raise CellError(message, did_you_mean(text, meanings)) from None


def _whole_number(text: str) -> int:
    if not re.fullmatch(r"\d+([.,]0+)?", text) or len(text) > MAX_NUMBER:
        raise CellError("this is not a whole number")
    return int(re.split("[.,]", text)[0])
