"""How rows of the manifest are printed: as a table of few columns, or with everything that they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_LONGEST = 240
"""Characters of a prompt or a reason in the table; `--wide` prints all of them."""

_SKU_WIDTH = 20
_DIGITS = 12


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """SKU, status, prompt and generation, and under the prompt why an image is not simply ready.

    Long texts are wrapped; nothing else gets narrower than it is.
    """
    table = Table(show_lines=False)
    table.add_column("sku", overflow="fold", max_width=_SKU_WIDTH)
    table.add_column("status", no_wrap=True, min_width=len("quarantined"))
    table.add_column("prompt, and what is wrong", overflow="fold", ratio=1)
    table.add_column("generation", no_wrap=True, min_width=_DIGITS)
    for row in rows:
        text = Text(_short(row["prompt"]))
        why = row["reason"] or row["error_message"]
        if why:
            text.append(f"\n{_short(why)}", style="yellow")
        table.add_row(Text(row["sku"]), Text(row["status"]), text, Text((row["generation_id"] or "")[:_DIGITS]))
    Console().print(table)


def print_columns(rows: Sequence[Mapping[str, Any]]) -> None:
    """Every column of every row that has a value, a line each, and an empty line between rows."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    for row in rows:
        said = {name: value for name, value in row.items() if value is not None and value != []}
        width = max(map(len, said))
        for name, value in said.items():
            console.print(f"{name:<{width}}  {', '.join(value) if isinstance(value, list) else value}")
        console.print()


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3].rstrip()}..."
