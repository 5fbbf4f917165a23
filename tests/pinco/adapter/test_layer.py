from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pinco.adapter import PincoAdapter
from pinco.adapter.initialise import Dense
from pinco.adapter.layer import Gate, LowRankLinear, SubjectLayer


@pytest.fixture
def new_layer(make_adapter: Callable[..., PincoAdapter]) -> Callable[..., SubjectLayer]:
    return lambda key_norm="rms", **options: SubjectLayer(replace(make_adapter(**options).settings, key_norm=key_norm))


def test_keys_are_normalised_and_values_are_not(new_layer: Callable[..., SubjectLayer]) -> None:
    layer = new_layer()
    keys, values = layer(torch.randn(2, 5, 32))
    assert keys.shape == values.shape == (2, 5, 2, 16)
    torch.testing.assert_close(keys.square().mean(-1), torch.ones(2, 5, 2), atol=1e-3, rtol=0)


def test_full_rank_starts_as_the_backbones_projections(new_layer: Callable[..., SubjectLayer]) -> None:
    layer = new_layer()
    key, value = (Dense(torch.randn(32, 32), torch.randn(32)) for _ in range(2))
    norm = torch.rand(16)
    layer.start_from(key, value, SimpleNamespace(weight=norm))
    tokens = torch.randn(2, 5, 32)
    keys, values = layer(tokens)
    torch.testing.assert_close(values.flatten(2), tokens @ value.weight.T + value.bias)
    plain = (tokens @ key.weight.T + key.bias).unflatten(-1, (2, 16))
    torch.testing.assert_close(keys, torch.nn.functional.rms_norm(plain, (16,), norm, 1e-6))


def test_low_rank_starts_at_the_nearest_low_rank_map(new_layer: Callable[..., SubjectLayer]) -> None:
    layer = new_layer(rank=4)
    dense = Dense(torch.randn(32, 4) @ torch.randn(4, 32), torch.randn(32))  # of rank 4: nothing is lost
    layer.start_from(dense, dense, None)
    assert isinstance(layer.to_v_sub, LowRankLinear)
    assert layer.to_v_sub.down.weight.shape == (4, 32)
    tokens = torch.randn(2, 5, 32)
    torch.testing.assert_close(layer(tokens)[1].flatten(2), tokens @ dense.weight.T + dense.bias, atol=1e-4, rtol=1e-4)


def test_a_gate_starts_shut_and_scales() -> None:
    gate = Gate(3)
    assert gate(torch.tensor(1.0)).shape == (1, 3, 1, 1) and not gate(torch.tensor(1.0)).any()
    with torch.no_grad():
        gate.value.copy_(torch.tensor([1.0, -1.0, 50.0]))
    torch.testing.assert_close(gate(torch.tensor(0.5)).flatten(), 0.5 * torch.tanh(gate.value))


@pytest.mark.parametrize(("kind", "size"), [("head", 2), ("layer", 1)])
def test_one_gate_per_head_or_per_layer(new_layer: Callable[..., SubjectLayer], kind: str, size: int) -> None:
    assert new_layer(gate=kind).gate.value.shape == (size,)


def test_the_key_norm_is_of_the_backbones_kind(new_layer: Callable[..., SubjectLayer]) -> None:
    tokens = torch.randn(2, 5, 32)
    norm = nn.LayerNorm(16)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    dense = Dense(torch.randn(32, 32), torch.randn(32))
    plain = (tokens @ dense.weight.T + dense.bias).unflatten(-1, (2, 16))
    rms = new_layer()
    normed = nn.functional.layer_norm(plain, (16,), norm.weight, norm.bias, 1e-6)
    for kind, wanted in (("layer", normed), ("none", plain)):
        layer = new_layer(key_norm=kind)
        layer.start_from(dense, dense, norm if kind == "layer" else None)
        torch.testing.assert_close(layer(tokens)[0], wanted, atol=1e-5, rtol=1e-5)
    assert {name for name, _ in rms.norm_k_sub.named_parameters()} == {"weight"}


def test_keys_may_come_from_other_tokens_than_values(new_layer: Callable[..., SubjectLayer]) -> None:
    layer, tokens, others = new_layer(), torch.randn(2, 5, 32), torch.randn(2, 5, 32)
    keys, values = layer(tokens, others)
    assert torch.equal(values, layer(tokens)[1]) and torch.equal(keys, layer(others)[0])
