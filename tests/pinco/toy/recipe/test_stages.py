from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pinco.toy.drawing.data import INSTRUMENT_SEED, TRAIN_SEED, draw_scenes
from pinco.toy.recipe import stages
from pinco.toy.recipe.stages import PRESETS, STAGES, Preset, Workshop
from pinco.training.config import TrainingConfig

SMALL = replace(PRESETS["smoke"], scenes=5, validation_scenes=5)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, TrainingConfig, int]]:
    """Folder, settings and steps of this session of every call of the trainer."""
    seen: list[tuple[str, TrainingConfig, int]] = []
    real = stages.train

    def watch(task: object, config: TrainingConfig, folder: Path) -> object:
        result = real(task, config, folder)
        seen.append((folder.name, config, result.steps - result.resumed_from))
        return result

    monkeypatch.setattr(stages, "train", watch)
    return seen


def test_every_stage_has_its_settings() -> None:
    assert list(STAGES) == [f.name for f in fields(Preset) if f.name not in ("scenes", "validation_scenes")]


@pytest.mark.parametrize("name", PRESETS)
def test_stages_of_a_preset_never_share_a_seed(name: str) -> None:
    seeds = [getattr(PRESETS[name].with_seed(s), stage).seed for s in range(3) for stage in STAGES]
    assert len(set(seeds)) == len(seeds)


def test_a_seed_changes_the_random_numbers_and_nothing_else() -> None:
    full = PRESETS["full"]
    assert full.with_seed(0) == full
    moved = full.with_seed(2)
    for stage in STAGES:
        assert getattr(moved, stage) == replace(getattr(full, stage), seed=getattr(full, stage).seed + 200)
    assert (moved.scenes, moved.validation_scenes) == (full.scenes, full.validation_scenes)


def test_validation_scenes_are_not_training_scenes(tmp_path: Path) -> None:
    train_sets, held_out = Workshop(tmp_path, SMALL).scenes()
    for sets, seed in ((train_sets, TRAIN_SEED), (held_out, INSTRUMENT_SEED)):
        for size, scenes in draw_scenes(5, seed).items():
            assert np.array_equal(scenes.image, sets[size].image)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"scenes-{TRAIN_SEED}-5.npz",
        f"scenes-{INSTRUMENT_SEED}-5.npz",
    ]


def test_text_encoders_come_from_the_backbones_seed(tmp_path: Path) -> None:
    one, two = Workshop(tmp_path, SMALL).text(), Workshop(tmp_path, SMALL).text()
    other = Workshop(tmp_path, SMALL.with_seed(1)).text()
    for i in (0, 1):
        first, second, third = (list(parts[i].parameters()) for parts in (one, two, other))
        assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))
        assert not all(torch.equal(p, q) for p, q in zip(first, third, strict=True))
        assert not any(p.requires_grad for p in first)


def test_finished_instruments_are_loaded_instead_of_trained_again(
    tmp_path: Path, runs: list[tuple[str, TrainingConfig, int]]
) -> None:
    made = [Workshop(tmp_path, SMALL).instruments() for _ in range(2)]
    assert runs == [  # by the first workshop
        ("segmenter", SMALL.segmenter, 2),
        ("classifier", SMALL.classifier, 2),
    ]
    for first, second in zip(*made, strict=True):
        assert not first.training
        assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))
        assert not any(p.requires_grad for p in first.parameters())
