"""Weights that wait elsewhere, and LoRAs over them."""

from __future__ import annotations

import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from pinco.adapter.backbone import at_hand, execution_device, without_loras

CPU = torch.device("cpu")


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(x))
        return result


def _with_lora() -> Two:
    model = Two().requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["first"], init_lora_weights=False), model)
    return model


def test_an_offloaded_module_has_its_weights_inside_only() -> None:
    model = Two()
    weight = model.first.weight.clone()
    cpu_offload(model, CPU)
    assert model.first.weight.is_meta
    with at_hand(model.first):
        assert torch.equal(model.first.weight, weight) and model.second.weight.is_meta
    assert model.first.weight.is_meta
    plain = Two()
    with at_hand(plain.first):
        assert torch.equal(plain.first.weight, weight)


def test_where_a_module_computes() -> None:
    assert execution_device(Two()) == CPU
    assert execution_device(Two().to("meta")) == torch.device("meta")
    offloaded = cpu_offload(Two(), CPU)
    assert offloaded.first.weight.is_meta and execution_device(offloaded) == execution_device(offloaded.first) == CPU
    whole, _ = cpu_offload_with_hook(Two(), torch.device("meta"))
    assert execution_device(whole) == torch.device("meta")
    assert execution_device(whole.first) == CPU  # called alone, it computes where it lies


def test_inside_a_lora_does_nothing() -> None:
    model, x = _with_lora(), torch.randn(3, 4)
    bare, tuned = Two()(x), model(x)
    learning = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert not torch.allclose(bare, tuned)
    with without_loras(model):
        torch.testing.assert_close(model(x), bare)
    torch.testing.assert_close(model(x), tuned)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == learning
    assert any(learning.values()) and not all(learning.values())


def test_loras_that_are_off_or_fused_stay_so() -> None:
    model, x = _with_lora(), torch.randn(3, 4)
    tuned = model(x)
    model.first.merge()  # type: ignore[operator]
    with without_loras(model):
        torch.testing.assert_close(model(x), tuned)
    assert model.first.merged
    model.first.unmerge()  # type: ignore[operator]
    model.first.enable_adapters(False)  # type: ignore[operator]
    with without_loras(model):
        torch.testing.assert_close(model(x), Two()(x))
    assert model.first.disable_adapters


def test_it_ends_after_an_error_too() -> None:
    model, x = _with_lora(), torch.randn(3, 4)
    tuned = model(x)
    with pytest.raises(KeyError), without_loras(model):
        raise KeyError("a caller's own error")
    torch.testing.assert_close(model(x), tuned)
