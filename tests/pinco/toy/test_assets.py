"""The shipped weights: that they load, that the card is theirs, and that they are good for something."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from pinco.catalog.quality.measures import psnr
from pinco.evaluation.segmenter import Segmenter
from pinco.generation.builtin import ADAPTER, BACKBONE, CLASSIFIER, SEGMENTER, assets
from pinco.pipelines.loading import load_pipeline
from pinco.toy.drawing.data import HELD_OUT_SEED, INSTRUMENT_SEED, TRAIN_SEED, SceneSet, draw_scenes
from pinco.toy.drawing.places import PLACES
from pinco.toy.model.instruments import PlaceClassifier
from pinco.toy.recipe.card import CARD, FIGURES, SHEET
from pinco.toy.recipe.encode import canvas_of
from pinco.toy.recipe.instrument_tasks import segmenter_ious
from pinco.toy.recipe.quality import VARIANTS
from pinco.toy.recipe.stages import PRESETS, STAGES
from pinco.toy.recipe.velocity import VelocityError, velocity_error, velocity_section

FRESH_SEED = 123_456
MAX_BYTES = 40_000_000


@pytest.fixture(scope="module")
def card() -> str:
    return (assets() / CARD).read_text()


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((assets() / FIGURES).read_text())
    return found


@pytest.fixture(scope="module")
def fresh() -> dict[tuple[int, int], SceneSet]:
    """Forty scenes that neither training nor the card's figures have seen."""
    assert FRESH_SEED not in (TRAIN_SEED, INSTRUMENT_SEED, HELD_OUT_SEED)
    return draw_scenes(40, FRESH_SEED)


def _files() -> list[Path]:
    return [p for p in assets().rglob("*") if p.is_file()]


def test_the_toy_is_small_and_free_of_pickles() -> None:
    assert sum(p.stat().st_size for p in _files()) <= MAX_BYTES
    assert {p.suffix for p in _files()} <= {".safetensors", ".json", ".md", ".jpg", ".txt"}


def test_everything_loads() -> None:
    pipeline = load_pipeline(assets() / BACKBONE, assets() / ADAPTER)
    assert pipeline.adapter is not None
    assert pipeline.adapter.attached_to(pipeline.pipe.transformer)
    assert all(g.abs().max() > 0.01 for g in pipeline.adapter.gates().values())
    assert (assets() / BACKBONE / str(pipeline.defaults.segmenter)).resolve() == (assets() / SEGMENTER).resolve()
    assert Segmenter.from_pretrained(assets() / SEGMENTER) is not None
    classifier = PlaceClassifier.from_pretrained(assets() / CLASSIFIER)
    assert tuple(classifier.config.places) == tuple(PLACES)
    with Image.open(assets() / SHEET) as sheet:
        sheet.load()


def test_the_card_counts_the_parameters_that_are_there(card: str) -> None:
    files = sorted(assets().rglob("*.safetensors"))
    rows = re.findall(r"^\| (\S+) \| `(\S+\.safetensors)` \| ([\d,]+) \| ([\d.]+) \|$", card, re.M)
    assert len(rows) == len(files)
    for folder, name, count, megabytes in rows:
        file = assets() / folder / name
        with safe_open(str(file), "pt") as tensors:
            shapes = [tensors.get_slice(key).get_shape() for key in tensors.keys()]  # noqa: SIM118
        assert int(count.replace(",", "")) == sum(int(np.prod(shape)) for shape in shapes)
        assert float(megabytes) == pytest.approx(file.stat().st_size / 1e6, abs=0.051)


def test_card_and_figures_tell_the_same(card: str, figures: dict[str, Any]) -> None:
    assert [line["name"] for line in figures["lines"]] == ["drawn scenes", "VAE round trip", *VARIANTS]
    for line in figures["lines"]:
        subject = line["subject"]
        row = (
            f"| {line['name']} | {line['place']:.1%} | {line['shuffled']:.1%} | {subject['extension']:.3f} "
            f"| {subject['shrinkage']:.3f} | {subject['psnr']:.1f} |"
        )
        assert row in card
    instruments = figures["instruments"]
    assert f"mean IoU {instruments['segmenter_iou_mean']:.3f}" in card
    assert f"{instruments['segmenter_iou_p10']:.3f}" in card
    assert f"{instruments['classifier_accuracy']:.1%}" in card
    assert f"{figures['pairs']} held-out" in card
    assert f"Preset `{figures['preset']}`, seed {figures['seed']}" in card


def test_the_cards_velocity_error_is_that_of_the_shipped_weights(card: str, figures: dict[str, Any]) -> None:
    said = VelocityError.from_json(figures["velocity"])
    assert said.shift == json.loads((assets() / BACKBONE / "scheduler" / "scheduler_config.json").read_text())["shift"]
    assert "\n".join(velocity_section(said)) in card
    measured = velocity_error(assets(), said.scenes)
    for line, wanted in zip(measured.lines, said.lines, strict=True):
        parts = {name: value for name, value in asdict(wanted).items() if name != "name" and value is not None}
        assert {name: getattr(line, name) for name in parts} == pytest.approx(parts, rel=1e-3)


def test_what_ships_is_the_whole_recipe(card: str, figures: dict[str, Any]) -> None:
    assert (figures["preset"], figures["seed"], figures["pairs"]) == ("full", 0, 256)
    training = card[card.index("## Training") : card.index("## Measured quality")]
    for stage in STAGES:
        config = getattr(PRESETS["full"], stage)
        assert f"| {stage} | {config.steps} | {config.batch_size} | {config.learning_rate:g} |" in training


def test_the_segmenter_finds_fresh_products(fresh: dict[tuple[int, int], SceneSet]) -> None:
    few = {size: SceneSet(*(column[: len(s) // 2] for column in vars(s).values())) for size, s in fresh.items()}
    ious = segmenter_ious(Segmenter.from_pretrained(assets() / SEGMENTER).eval(), few)
    assert len(ious) == 20
    assert ious.mean() > 0.8


def test_the_classifier_reads_fresh_places(fresh: dict[tuple[int, int], SceneSet]) -> None:
    classifier = PlaceClassifier.from_pretrained(assets() / CLASSIFIER).eval()
    right = [classifier.places_of(s.image, s.layer[..., 3] > 0) == s.place for s in fresh.values()]
    assert np.concatenate(right).mean() > 0.9


def test_with_the_adapter_the_product_is_kept_better(fresh: dict[tuple[int, int], SceneSet]) -> None:
    scenes = fresh[128, 128]
    kept: dict[bool, list[float]] = {}
    for with_adapter in (False, True):
        pipeline = load_pipeline(assets() / BACKBONE, assets() / ADAPTER if with_adapter else None)
        raw = [
            pipeline.generate(
                pipeline.encode_canvas(canvas_of(scenes.layer[i])),
                [pipeline.defaults.request(str(scenes.caption[i]), seed=i, blending=False)],
            )[0]
            for i in range(4)
        ]
        kept[with_adapter] = [psnr(r, s[..., :3], s[..., 3]) for r, s in zip(raw, scenes.layer[:4], strict=True)]
    assert min(np.subtract(kept[True], kept[False])) > 0
    assert np.mean(kept[True]) > np.mean(kept[False]) + 3
