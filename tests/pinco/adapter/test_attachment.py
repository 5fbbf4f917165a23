from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor

from pinco.adapter import PincoAdapter

MakeAdapter = Callable[..., PincoAdapter]


def test_detaching_puts_the_very_objects_back(
    make_adapter: MakeAdapter, transformer: FluxTransformer2DModel, inputs: dict[str, Any]
) -> None:
    originals = transformer.attn_processors
    bare = transformer(**inputs)[0]
    adapter = make_adapter().attach(transformer)
    assert not any(transformer.attn_processors[name] is original for name, original in originals.items())
    adapter.detach()
    assert not adapter.attached
    assert all(transformer.attn_processors[name] is original for name, original in originals.items())
    assert not transformer._forward_pre_hooks
    assert torch.equal(transformer(**inputs)[0], bare)
    adapter.detach()  # a second time does nothing


def test_only_the_chosen_layers_are_entered(make_adapter: MakeAdapter, transformer: FluxTransformer2DModel) -> None:
    originals = transformer.attn_processors
    make_adapter(layers=[3, 0]).attach(transformer)
    entered = [name for name, processor in transformer.attn_processors.items() if processor is not originals[name]]
    assert entered == ["transformer_blocks.0.attn.processor", "single_transformer_blocks.1.attn.processor"]


def test_the_adapters_weights_never_enter_the_backbone(
    make_adapter: MakeAdapter, transformer: FluxTransformer2DModel
) -> None:
    state = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    parameters = [name for name, _ in transformer.named_parameters()]
    modules = [name for name, _ in transformer.named_modules()]
    adapter = make_adapter().attach(transformer)
    attached = transformer.state_dict()
    assert list(attached) == list(state)
    assert all(torch.equal(attached[name], tensor) for name, tensor in state.items())
    assert [name for name, _ in transformer.named_parameters()] == parameters
    assert [name for name, _ in transformer.named_modules()] == modules
    backbone = {id(parameter) for parameter in transformer.parameters()}
    assert not backbone & {id(parameter) for parameter in adapter.parameters()}


def test_a_foreign_processor_is_refused_and_nothing_is_changed(
    make_adapter: MakeAdapter, transformer: FluxTransformer2DModel
) -> None:
    class Foreign(FluxAttnProcessor):
        pass

    transformer.single_transformer_blocks[0].attn.set_processor(Foreign())
    before = transformer.attn_processors
    adapter = make_adapter()
    with pytest.raises(ValueError, match=r"layer 2 .* foreign attention processor \(Foreign\)"):
        adapter.attach(transformer)
    assert transformer.attn_processors == before and not adapter.attached


def test_a_second_adapter_is_refused(make_adapter: MakeAdapter, transformer: FluxTransformer2DModel) -> None:
    make_adapter().attach(transformer)
    with pytest.raises(ValueError, match=r"foreign attention processor \(FluxPincoProcessor\)"):
        make_adapter().attach(transformer)


def test_processors_that_were_replaced_are_noticed(
    make_adapter: MakeAdapter,
    transformer: FluxTransformer2DModel,
    inputs: dict[str, Any],
    subject_inputs: tuple[Tensor, Tensor],
) -> None:
    adapter = make_adapter().attach(transformer)
    subject = adapter.encode(*subject_inputs)
    transformer.transformer_blocks[1].attn.set_processor(FluxAttnProcessor())
    transformer(**inputs)
    with pytest.raises(RuntimeError, match=r"layer\(s\) \[1\] were replaced"):
        transformer(**inputs, joint_attention_kwargs={"subject": subject})


def test_load_ip_adapter_is_refused(make_adapter: MakeAdapter, transformer: FluxTransformer2DModel) -> None:
    make_adapter().attach(transformer)
    weights: dict[str, dict[str, Tensor]] = {"image_proj": {"proj.weight": torch.zeros(32, 8)}, "ip_adapter": {}}
    for layer in range(2):
        for name in ("to_k_ip", "to_v_ip"):
            weights["ip_adapter"][f"{layer}.{name}.weight"] = torch.zeros(32, 8)
            weights["ip_adapter"][f"{layer}.{name}.bias"] = torch.zeros(32)
    with pytest.raises(RuntimeError, match=r"adapter\.detach\(\) before load_ip_adapter"):
        transformer._load_ip_adapter_weights(weights, low_cpu_mem_usage=False)


def test_a_subject_of_another_size_is_refused(
    make_adapter: MakeAdapter,
    transformer: FluxTransformer2DModel,
    inputs: dict[str, Any],
    subject_inputs: tuple[Tensor, Tensor],
) -> None:
    adapter = make_adapter().attach(transformer)
    latents, maps = subject_inputs
    subject = adapter.encode(latents[..., :8], maps[..., :64])
    with pytest.raises(ValueError, match="encoded for 4 x 4 tokens, the latents have 20"):
        transformer(**inputs, joint_attention_kwargs={"subject": subject})
