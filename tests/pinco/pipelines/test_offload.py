"""Offloaded pipelines of all families make the images of resident ones, with an adapter in place.

accelerate's hooks work alike on every device. Here the CPU is the execution device, so that sequential offload truly
leaves all weights on the meta device except while their module runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from torch import nn

from pinco.adapter import PincoAdapter
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.arrays import U8
from preprocessing.canvas import Canvas

CPU = torch.device("cpu")
WHOLE = ["HunyuanDiTAttentionPool"]
"""Module classes that read weights of modules inside of them without calling these."""

MakeCanvas = Callable[..., Canvas]


def _sequential(pipe: Any) -> None:
    """As `enable_sequential_cpu_offload`, which would not take the CPU for an execution device."""
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            cpu_offload(part, CPU, offload_buffers=len(part._parameters) > 0, preload_module_classes=WHOLE)
            assert all(parameter.is_meta for parameter in part.parameters())


def _by_model(pipe: Any) -> None:
    pipe.enable_model_cpu_offload(device="cpu")


def _by_group(pipe: Any) -> None:
    pipe.enable_group_offload(CPU, offload_type="leaf_level")


@pytest.fixture
def own_pipe(pipe: Any) -> Any:
    """Every pipeline in turn, with parts of its own."""
    parts = {name: copy.deepcopy(part) for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    return type(pipe)(**(pipe.components | parts))


def _image(pinco: PincoPipeline, canvas: Canvas) -> U8:
    request = pinco.defaults.request("a bottle on grass", seed=1, steps=2, true_cfg=2.0)
    return pinco.generate(pinco.encode_canvas(canvas), [request])[0]


@pytest.mark.parametrize("attached_before", [True, False], ids=["attached before", "attached after"])
@pytest.mark.parametrize("offload", [_sequential, _by_model, _by_group])
def test_an_image_is_that_of_the_resident_pipeline(
    own_pipe: Any,
    adapter: PincoAdapter,
    make_canvas: MakeCanvas,
    offload: Callable[[Any], None],
    attached_before: bool,
) -> None:
    transformer = own_pipe.transformer
    if offload is _by_model and not getattr(own_pipe, "model_cpu_offload_seq", None):
        return
    if offload is _by_group and not getattr(transformer, "_supports_group_offloading", False):
        return
    pinco = PincoPipeline(own_pipe, adapter)
    wanted = _image(pinco, make_canvas())
    if not attached_before:
        adapter.detach()
    offload(own_pipe)
    if not attached_before:
        pinco = PincoPipeline(own_pipe, adapter)
    assert np.array_equal(_image(pinco, make_canvas()), wanted)


def test_the_adapter_may_be_offloaded_too(own_pipe: Any, adapter: PincoAdapter, make_canvas: MakeCanvas) -> None:
    pinco = PincoPipeline(own_pipe, adapter)
    wanted, gates = _image(pinco, make_canvas()), adapter.gates()
    _sequential(own_pipe)
    cpu_offload(adapter, CPU)
    assert np.array_equal(_image(pinco, make_canvas()), wanted)
    assert all(torch.equal(gate, gates[number]) for number, gate in adapter.gates().items())
