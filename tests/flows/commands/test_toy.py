from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result


def test_training_gets_folder_seed_and_preset(pinco: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    training = ModuleType("pinco.toy.recipe.train")
    training.train_toy = lambda out, seed, preset: seen.extend((out, seed, preset))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pinco.toy.recipe.train", training)
    assert pinco("toy", "train", "--out", "here", "--seed", 5, "--preset", "small").exit_code == 0
    assert seen == [Path("here"), 5, "small"]
