from __future__ import annotations

from typing import Any

import pytest

from flows.commands.rows import print_columns, print_table

REASON = "The photo file is incomplete or damaged; it may have been cut off while it was uploaded. " * 12


def _row(**given: Any) -> dict[str, Any]:
    row = {"sku": "0042-NORTH", "prompt": "a mug on a wooden table", "status": "quarantined", "reason": None}
    return row | {"error_message": REASON, "generation_id": "0123456789abcdef" * 4} | given


@pytest.mark.parametrize("width", [60, 80, 120, 160])
def test_a_long_reason_leaves_the_other_columns_readable(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table([_row(), _row(sku="0043", status="ok", error_message=None)])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    for whole in ("0042-NORTH", "quarantined", "0123456789ab"):
        assert whole in said
    words = " ".join(word for line in said.splitlines() if "│" in line for word in line.split("│")[3].split())
    assert "a mug on a wooden table" in words and "The photo file is incomplete or damaged" in words
    assert len(said.splitlines()) < 30, "the reason is shortened"


def test_texts_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([_row(prompt="[bold]x[/bold]", error_message=None)])
    print_columns([_row(prompt="[bold]y[/bold]", error_message=":smile:")])
    said = capsys.readouterr().out
    assert "[bold]x[/bold]" in said and "[bold]y[/bold]" in said and ":smile:" in said


def test_every_column_that_has_a_value_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_columns([_row(not_scored=["a", "b"], other=[])])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line)
    assert lines["error_message"].strip() == REASON.strip()
    assert lines["not_scored"] == "a, b"
    assert not {"reason", "other"} & lines.keys()
