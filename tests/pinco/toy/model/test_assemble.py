from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from safetensors import safe_open

from pinco.generation.builtin import ADAPTER, BACKBONE, SEGMENTER
from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.loading import load_pipeline
from pinco.toy.model.assemble import DEFAULTS, ToyParts
from pinco.toy.model.text import MAX_LENGTH


def _keys(folder: Path) -> set[str]:
    (file,) = folder.glob("*.safetensors")
    with safe_open(str(file), "pt") as tensors:
        return set(tensors.keys())


@pytest.mark.parametrize("attached", [False, True])
def test_the_adapter_is_saved_apart_from_the_backbone(parts: ToyParts, tmp_path: Path, attached: bool) -> None:
    bare = set(parts.transformer.state_dict())
    if attached:
        parts.adapter.attach(parts.transformer)
    parts.save(tmp_path)
    assert _keys(tmp_path / BACKBONE / "transformer") == bare
    saved = _keys(tmp_path / ADAPTER)
    assert saved == set(parts.adapter.state_dict())
    assert not saved & bare
    assert parts.adapter.attached == attached  # as it was


def test_what_was_saved_is_what_was_in_memory(parts: ToyParts, tmp_path: Path) -> None:
    parts.save(tmp_path)
    loaded = FluxPipeline.from_pretrained(tmp_path / BACKBONE)
    for name in ("vae", "transformer", "text_encoder", "text_encoder_2"):
        ours, its = getattr(parts.pipeline(), name).state_dict(), getattr(loaded, name).state_dict()
        assert ours.keys() == its.keys()
        assert all(torch.equal(ours[k], its[k]) for k in ours)
    text = "a red mug, on a sandy beach"
    for tokenizer in (loaded.tokenizer, loaded.tokenizer_2):
        assert tokenizer(text).input_ids == parts.tokenizer(text).input_ids
        assert tokenizer.model_max_length == MAX_LENGTH
    assert loaded.scheduler.config.shift == 1.0
    assert not loaded.scheduler.config.use_dynamic_shifting


def test_the_pipeline_finds_its_settings_and_its_segmenter(toy: Path) -> None:
    other = GenerationDefaults(steps=1, guidance=9.0, true_cfg=1.0, max_sequence_length=8, working_pixels=1)
    assert GenerationDefaults.read(toy / BACKBONE, other) == DEFAULTS
    pipeline = load_pipeline(toy / BACKBONE, toy / ADAPTER)
    assert pipeline.defaults == DEFAULTS
    assert (toy / BACKBONE / str(DEFAULTS.segmenter)).resolve() == (toy / SEGMENTER).resolve()
    assert not DEFAULTS.blending  # blending hides what the adapter does
