from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from safetensors import safe_open

from pinco.adapter.adapter import PincoAdapter
from pinco.evaluation.segmenter import Segmenter
from pinco.generation.builtin import ADAPTER, BACKBONE, CLASSIFIER, SEGMENTER
from pinco.pipelines.loading import load_pipeline
from pinco.toy.drawing.data import Sets
from pinco.toy.model.instruments import PlaceClassifier
from pinco.toy.model.untrained import make_untrained, untrained_parts
from pinco.toy.recipe.encode import canvas_of


def test_everything_is_there_and_small(toy: Path) -> None:
    assert sorted(p.name for p in toy.iterdir()) == sorted([BACKBONE, ADAPTER, SEGMENTER, CLASSIFIER])
    files = [p for p in toy.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 3_000_000
    assert not [p for p in files if p.suffix in (".bin", ".pt", ".pkl", ".pth")]


def test_parts_load_the_ordinary_way(toy: Path) -> None:
    pipe = FluxPipeline.from_pretrained(toy / BACKBONE)
    assert pipe.transformer.config.in_channels == 64
    adapter = PincoAdapter.from_pretrained(toy / ADAPTER).attach(pipe.transformer)
    assert all(g.abs().min() > 0.4 for g in adapter.gates().values())  # open, so that it has a say
    Segmenter.from_pretrained(toy / SEGMENTER)
    PlaceClassifier.from_pretrained(toy / CLASSIFIER)


def test_it_makes_pictures_on_which_the_adapter_has_a_say(toy: Path, sets: Sets) -> None:
    canvas = canvas_of(sets[160, 96].layer[0])
    pictures = []
    for adapter in (None, toy / ADAPTER):
        pipeline = load_pipeline(toy / BACKBONE, adapter)
        request = pipeline.defaults.request("on sand", seed=1, steps=2)
        pictures += pipeline.generate(pipeline.encode_canvas(canvas), [request])
    assert all(p.shape == (96, 160, 3) and p.dtype == np.uint8 for p in pictures)
    assert not np.array_equal(*pictures)


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in sorted(folder.rglob("*.safetensors")):
        with safe_open(str(file), "pt") as tensors:
            found |= {f"{file.relative_to(folder)}/{k}": tensors.get_tensor(k) for k in tensors.keys()}  # noqa: SIM118
    return found


@pytest.mark.parametrize(("seed", "alike"), [(0, True), (1, False)])
def test_the_seed_decides_every_weight(toy: Path, tmp_path: Path, seed: int, alike: bool) -> None:
    first, second = _tensors(toy), _tensors(make_untrained(tmp_path, seed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first) == alike


def test_global_chance_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    untrained_parts(1)
    assert torch.equal(torch.rand(3), expected)
