from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pinco.generation.builtin import ADAPTER, BACKBONE, assets

Pinco = Callable[..., Result]


def test_a_new_adapter_is_written_and_can_be_looked_at(pinco: Pinco, tmp_path: Path) -> None:
    made = pinco(
        "adapter", "init", "--backbone", assets(), "--layers", "0,2-3", "--rank", 16, "--out", tmp_path / "new"
    )
    assert made.exit_code == 0, made.output
    assert "Enters      3 layers, rank 16, one gate per head" in made.output
    assert made.output.splitlines()[-1] == f"Written to  {(tmp_path / 'new').resolve()}"
    seen = pinco("adapter", "info", tmp_path / "new")
    assert seen.exit_code == 0
    assert seen.output.splitlines()[:-1] == made.output.splitlines()[:-1]
    assert seen.output.splitlines()[-1].split(None, 1) == [
        "Gates",
        "all zero: it is not trained, and its images are the bare backbone's",
    ]


def test_a_trained_adapter_shows_its_gates_and_the_memory_of_all_tokens(pinco: Pinco) -> None:
    seen = pinco("adapter", "info", assets() / ADAPTER)
    assert seen.exit_code == 0
    assert "Gates       open in 7 layers; the strongest is 0." in seen.output
    # 2 x 7 layers x 192 values x 2 bytes x 64 x 64 tokens, none of them pruned
    assert "Memory      21 MiB" in seen.output and "whatever the product's size" in seen.output


def test_a_dry_run_writes_nothing(pinco: Pinco, tmp_path: Path) -> None:
    said = pinco("adapter", "init", "--backbone", assets() / BACKBONE, "--dry-run", "--out", tmp_path / "new")
    assert said.exit_code == 0 and "Parameters  0.7 M" in said.output and "Written" not in said.output
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--layers", "2-"], "--layers takes all, a group's name, or numbers such as 0,1,2-5, not '2-'"),
        (["--layers", "attic"], "layers must be all, double, single or layer numbers, not 'attic'"),
        (["--layers", "0,99"], "layers must be distinct numbers from 0 to 6, at least one; got (0, 99)"),
        (["--rank", "low"], "--rank takes auto, full, or a whole number, not 'low'"),
        (["--rank", "9999"], "rank must lie between 1 and 192, or be None for full rank; got 9999"),
    ],
)
def test_a_wrong_choice_is_a_sentence(pinco: Pinco, tmp_path: Path, words: list[str], sentence: str) -> None:
    result = pinco("adapter", "init", "--backbone", assets(), "--out", tmp_path / "new", *words)
    assert (result.exit_code, result.stderr) == (1, f"{sentence}\n")
    assert not (tmp_path / "new").exists()


def test_nothing_is_written_over(pinco: Pinco, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = pinco("adapter", "init", "--backbone", assets(), "--out", tmp_path)
    assert result.exit_code == 1 and "is not empty: name another folder with --out" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_is_no_adapter_is_a_sentence(pinco: Pinco, tmp_path: Path) -> None:
    result = pinco("adapter", "info", tmp_path / "nope")
    assert result.exit_code == 1 and result.stderr.startswith(f"there is no adapter in {tmp_path / 'nope'}: name a")
