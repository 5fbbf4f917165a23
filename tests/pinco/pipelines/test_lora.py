"""A LoRA file on the backbone's pipeline, under an attached adapter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict

from pinco.adapter import PincoAdapter
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.arrays import U8
from preprocessing.canvas import Canvas
from tests.pinco.pipelines.odd_pipeline import open_adapter

MakeCanvas = Callable[..., Canvas]
ROUNDING = 1
"""Of 255: fusing adds the LoRA to the weights, and taking it out again leaves a rounding error there."""


def _write_lora(pipe: Any, folder: Path) -> None:
    """A random LoRA for the attentions, as training scripts of diffusers save it."""
    torch.manual_seed(8)
    transformer = copy.deepcopy(pipe.transformer)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)
    transformer.add_adapter(config)
    type(pipe).save_lora_weights(folder, transformer_lora_layers=get_peft_model_state_dict(transformer))


def _image(pinco: PincoPipeline, canvas: Canvas) -> U8:
    request = pinco.defaults.request("a bottle on grass", seed=1, steps=2, true_cfg=2.0)
    return pinco.generate(pinco.encode_canvas(canvas), [request])[0]


def _distance(one: U8, other: U8) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_a_loaded_lora_changes_the_image_and_the_adapter_goes_on(
    name: str, new_pipe: Callable[[str], Any], make_canvas: MakeCanvas, tmp_path: Path
) -> None:
    pipe = new_pipe(name)
    adapter: PincoAdapter = open_adapter(pipe)
    _write_lora(pipe, tmp_path)
    pinco, canvas = PincoPipeline(pipe, adapter), make_canvas()
    without = _image(pinco, canvas)
    pipe.load_lora_weights(tmp_path)
    tuned = _image(pinco, canvas)
    assert _distance(tuned, without) > ROUNDING
    # The product of another canvas is seen, and none at scale 0. The tiny backbone does not change much by it.
    assert not np.array_equal(_image(pinco, make_canvas(left=32)), tuned)
    adapter.scale = 0.0
    assert not np.array_equal(_image(pinco, canvas), tuned)
    adapter.scale = 1.0
    pipe.fuse_lora()
    assert _distance(_image(pinco, canvas), tuned) <= ROUNDING
    pipe.unfuse_lora()
    assert _distance(_image(pinco, canvas), tuned) <= ROUNDING
    pipe.unload_lora_weights()
    assert adapter.attached_to(pipe.transformer)
    assert _distance(_image(pinco, canvas), without) <= ROUNDING
