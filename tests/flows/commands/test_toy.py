from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result


def test_training_gets_folder_seed_and_preset_and_says_what_it_made(
    pinco: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    training = ModuleType("pinco.toy.recipe.train")
    training.train_toy = lambda out, seed, preset: (seen.extend((out, seed, preset)), out / "toy")[1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pinco.toy.recipe.train", training)
    result = pinco("toy", "train", "--out", "here", "--seed", 5, "--preset", "small")
    assert result.exit_code == 0 and seen == [Path("here"), 5, "small"]
    said = result.output.splitlines()
    assert said[0].split() == ["Backbone", str(Path("here/toy/backbone").resolve())]
    assert said[1].split() == ["Adapter", str(Path("here/toy/adapter").resolve())]
    assert said[-1].endswith(" --backbone here/toy/backbone --adapter here/toy/adapter")


def test_an_unknown_preset_is_a_sentence_with_the_known_ones(pinco: Callable[..., Result], tmp_path: Path) -> None:
    result = pinco("toy", "train", "--preset", "nope")
    assert result.exit_code == 1
    assert result.stderr == "unknown preset 'nope'; there are full, smoke\n"
    assert list(tmp_path.iterdir()) == []
