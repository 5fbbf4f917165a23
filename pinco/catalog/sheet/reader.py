"""The prompt sheet: what a marketer writes, read row by row.

The columns, of which a row needs `sku` and either `prompt` or `template`:

- `sku`: the product.
- `image`: its photo, where it is not the catalog's: a path (relative to the sheet, else to the catalog's folder) or an
  s3:// address.
- `prompt`: the text, used word for word.
- `template`: the name of a template of the settings, or a template itself (a text with `{{ ... }}`).
- `var:NAME`: a value for `{{ NAME }}`; `a | b | c` is a list of values. It replaces the catalog's column of that name.
- `expand`: how several lists combine: `cross` (every value with every other; the default) or `zip` (first with first).
- `negative`: what the picture must not show.
- `channel`: a preset of the settings: size and file format.
- `size`: instead of the channel's size: `800x600`, `512`, `source`.
- `n`: images per prompt; the default is 1.
- `seed`: a number; variant k gets seed + k. Empty: derived from everything else, and so the same every night.
- `placement`: `original`, `centre`, `bottom`.
- `scale`: the product's share of the canvas: `0.6`, `60%`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pinco.catalog.ids.job import Size
from pinco.catalog.sheet import cells
from pinco.catalog.sheet.csv_table import MAX_TABLE, Table, TableRow, read_csv
from pinco.catalog.sheet.problems import Problems, SheetError, SheetProblem, did_you_mean, one_of
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess
from pinco.catalog.store.base import StoreError

COLUMNS = (
    "sku", "image", "prompt", "template", "negative", "channel", "size", "n", "seed", "placement", "scale", "expand"
)  # fmt: skip
VARIABLE = "var:"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PARSERS: dict[str, Callable[[str], Any]] = {
    "size": cells.parse_size,
    "n": cells.parse_variants,
    "seed": cells.parse_seed,
    "placement": cells.parse_placement,
    "scale": cells.parse_scale,
    "expand": cells.parse_expand,
}


@dataclass(frozen=True)
class SheetRow:
    """One row, parsed cell by cell; None = the cell is empty and the default is used.

    A cell with an error counts as empty here, and the rest of its row is still checked. The error is among the sheet's
    errors, so that nothing is run. The attributes are the columns; `row` is the number as a spreadsheet shows it, and
    the size "source" is the photo's own.
    """

    row: int
    sku: str
    image: str | None
    prompt: str | None
    template: str | None
    variables: dict[str, tuple[str, ...]]
    negative: str | None
    channel: str | None
    size: Size | Literal["source"] | None
    n: int
    seed: int | None
    placement: cells.PlacementKind | None
    scale: float | None
    expand: cells.Expand


@dataclass(frozen=True)
class Sheet:
    """A sheet that could be read.

    Attributes:
        path: Its address.
        rows: Without blank ones.
        errors: Of single columns and cells. They are kept, not raised, so that `validate` and `plan` can report them
            together with the errors that they find themselves.
        warnings: What is probably not meant.
    """

    path: str
    rows: tuple[SheetRow, ...]
    errors: tuple[SheetProblem, ...] = ()
    warnings: tuple[SheetProblem, ...] = ()


def read_sheet(path: str | Path, *, access: StoreAccess = DEFAULT_ACCESS) -> Sheet:
    """Read a CSV sheet.

    Args:
        path: A path or an s3:// address.
        access: For S3.

    Raises:
        SheetError: The file is missing, is not CSV, or lacks columns that every row needs.
    """
    try:
        data = access.read(str(path), max_bytes=MAX_TABLE)
    except StoreError as error:
        raise SheetError(
            [SheetProblem(None, None, None, f"the sheet cannot be read: {error}", None, str(path))]
        ) from error
    return parse_sheet(data, str(path))


def parse_sheet(data: bytes, path: str) -> Sheet:
    """`read_sheet` for bytes in memory.

    Args:
        data: The file.
        path: Its address, for messages and relative paths of photos.

    Raises:
        SheetError: As by `read_sheet`.
    """
    problems = Problems(path)
    raw = read_csv(data, problems, [*COLUMNS, "var"])
    table = _named(raw, problems)
    names = set(table.columns)
    if raw.columns and "sku" not in names:
        problems.error("the column sku is missing", row=1, hint="Add a column sku with one product per row.")
    if raw.columns and not names & {"prompt", "template"}:
        problems.error("there is no column prompt", row=1, hint="Add a column prompt, or template.")
    if not table.rows and not problems.errors:
        problems.error("the sheet has no rows", hint="Write one row per product and prompt under the header.")
    if "sku" not in names or not names & {"prompt", "template"} or not table.rows:
        raise SheetError(problems.errors, problems.warnings)
    rows = tuple(_row(line, problems) for line in table.rows)
    return Sheet(path, rows, tuple(problems.errors), tuple(problems.warnings))


def _named(table: Table, problems: Problems) -> Table:
    """The table with its columns' names in their standard spelling."""
    renamed: dict[str, str] = {}
    for column in table.columns:
        folded = column.casefold().strip("“”\"' ")
        prefix, colon, variable = column.partition(":")
        if colon and prefix.strip().casefold() == "var":
            name = variable.strip()
            if not _NAME.fullmatch(name):
                plain = re.sub(r"\W+", "_", name) or "place"
                problems.error(
                    "a variable's name has letters, digits and _ only",
                    row=1,
                    column=column,
                    value=column,
                    hint=f"Call it var:{plain}.",
                )
                continue
            renamed[column] = VARIABLE + name
        elif folded in COLUMNS:
            renamed[column] = folded
        else:
            hint = (
                did_you_mean(folded, COLUMNS)
                or f"A variable for templates is called var:{column}. {one_of(COLUMNS, 12)}"
            )
            problems.error("this column is unknown", row=1, column=column, value=column, hint=hint)
    rows = [
        TableRow(row.number, {renamed[name]: row.cells[name] for name in row.cells if name in renamed})
        for row in table.rows
    ]
    return Table(tuple(renamed.values()), tuple(rows))


def _row(line: TableRow, problems: Problems) -> SheetRow:
    # Composed and decomposed accents look alike and must not give two prompts.
    texts = {column: unicodedata.normalize("NFC", text) for column, text in line.cells.items()}
    values: dict[str, Any] = {}

    def parsed(column: str, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(texts[column])
        except cells.CellError as error:
            problems.error(str(error), row=line.number, column=column, value=texts[column], hint=error.hint)
            return None

    for column, parse in _PARSERS.items():
        if column in texts:
            values[column] = parsed(column, parse)
    variables = {
        column.removeprefix(VARIABLE): parsed(column, cells.parse_choices) or ("",)
        for column in texts
        if column.startswith(VARIABLE)
    }
    if "sku" not in texts:
        problems.error("the sku is missing", row=line.number, column="sku", hint="Every row names its product.")
    if "prompt" in texts and "template" in texts:
        problems.error(
            "there are a prompt and a template",
            row=line.number,
            column="template",
            value=texts["template"],
            hint="Keep one.",
        )
    if "prompt" not in texts and "template" not in texts:
        problems.error("there is neither a prompt nor a template", row=line.number, column="prompt", hint="Write one.")
    return SheetRow(
        row=line.number,
        sku=texts.get("sku", ""),
        image=texts.get("image"),
        prompt=texts.get("prompt"),
        template=texts.get("template"),
        variables=variables,
        negative=texts.get("negative"),
        channel=texts.get("channel"),
        size=values.get("size"),
        n=values.get("n") or 1,
        seed=values.get("seed"),
        placement=values.get("placement"),
        scale=values.get("scale"),
        expand=values.get("expand") or "cross",
    )
