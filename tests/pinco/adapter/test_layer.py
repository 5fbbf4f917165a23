from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pinco.adapter import PincoAdapter
from pinco.adapter.initialise import Dense
from pinco.adapter.layer import Gate, LowRankLinear, SubjectLayer


@pytest.fixture
def new_layer(make_adapter: Callable[..., PincoAdapter]) -> Callable[..., SubjectLayer]:
    return lambda **options: SubjectLayer(make_adapter(**options).settings)


def test_keys_are_normalised_and_values_are_not(new_layer: Callable[..., SubjectLayer]) -> None:
    layer = new_layer()
    keys, values = layer(torch.randn(2, 5, 32))
    assert keys.shape == values.shape == (2, 5, 2, 16)
    torch.testing.assert_close(keys.square().mean(-1), torch.ones(2, 5, 2), atol=1e-3, rtol=0)


def test_full_rank_starts_as_the_backbones_projections(new_layer: Callable[..., SubjectLayer]) -> None:
    layer = new_layer()
    key, value = (Dense(torch.randn(32, 32), torch.randn(32)) for _ in range(2))
    norm = torch.rand(16)
    layer.start_from(key, value, norm)
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
