from __future__ import annotations

import json
from pathlib import Path

import pytest

from pinco.generation.builtin import ADAPTER, BACKBONE
from pinco.pipelines.loading import load_pipeline
from pinco.toy.recipe.card import CARD, FIGURES, SHEET
from pinco.toy.recipe.quality import VARIANTS
from pinco.toy.recipe.stages import PRESETS, STAGES
from pinco.toy.recipe.train import UnknownPresetError, train_toy
from pinco.training.checkpoint import CheckpointMismatchError, save_checkpoint

LINES = ["drawn scenes", "VAE round trip", *VARIANTS]


def test_an_unknown_preset_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownPresetError, match="unknown preset 'fast'; there are full, smoke"):
        train_toy(tmp_path, preset="fast")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_another_seeds_run_is_refused_in_a_sentence(tmp_path: Path) -> None:
    config = PRESETS["smoke"].with_seed(0).decoder
    state = {"config": config.as_dict(), "ranks": 1}
    save_checkpoint(tmp_path / "work" / "decoder" / "checkpoints", 2, {}, state)
    with pytest.raises(CheckpointMismatchError, match=r"decoder holds a run with another seed; .* new folder"):
        train_toy(tmp_path, seed=1, preset="smoke", ranks=1)


@pytest.mark.slow
@pytest.mark.timeout(1500)  # a minute or two of CPU; a busy machine takes a multiple
def test_the_whole_recipe_from_scenes_to_card(tmp_path: Path) -> None:
    toy = train_toy(tmp_path, preset="smoke", ranks=1)
    assert toy == tmp_path / "toy"
    card = (toy / CARD).read_text()
    assert all(f"\n| {name} |" in card for name in (*STAGES, *LINES))
    figures = json.loads((toy / FIGURES).read_text())
    assert [line["name"] for line in figures["lines"]] == LINES
    assert (figures["pairs"], figures["preset"], figures["seed"]) == (2, "smoke", 0)
    assert (toy / SHEET).is_file()
    load_pipeline(toy / BACKBONE, toy / ADAPTER)
    assert list((tmp_path / "work").glob("rendezvous*")) == []

    # Once more with the same arguments: nothing is trained again, and everything comes out the same.
    logs = {stage: (tmp_path / "work" / stage / "log.jsonl") for stage in STAGES}
    written = {stage: file.read_bytes() for stage, file in logs.items()}
    weights = {f.relative_to(toy): f.read_bytes() for f in toy.rglob("*.safetensors")}
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "work").rglob("checkpoints/*/*")}
    assert times
    train_toy(tmp_path, preset="smoke", ranks=1)
    assert {stage: file.read_bytes() for stage, file in logs.items()} == written
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "work").rglob("checkpoints/*/*")} == times
    assert {f.relative_to(toy): f.read_bytes() for f in toy.rglob("*.safetensors")} == weights
    assert (toy / CARD).read_text() == card
