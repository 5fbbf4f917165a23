from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from pinco.adapter.initialise import Dense, dense, truncate
from pinco.adapter.tokens import pack


class _Int8Linear(nn.Module):
    """A quantised layer as libraries make them: nothing in it is a plain weight matrix."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.register_buffer("quantised", (linear.weight * 64).round().to(torch.int8))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.quantised.to(x) / 64, self.bias)


@pytest.mark.parametrize("bias", [True, False])
def test_a_plain_layer_is_read_as_it_is(bias: bool) -> None:
    linear = nn.Linear(5, 3, bias=bias).to(torch.bfloat16)
    read = dense(linear)
    assert torch.equal(read.weight, linear.weight.float())
    assert torch.equal(read.bias, linear.bias.float() if bias else torch.zeros(3))


def test_a_quantised_layer_is_read_by_what_it_does() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(5, 3)
    quantised = _Int8Linear(linear)
    read = dense(quantised)
    torch.testing.assert_close(read.weight, quantised.quantised.float() / 64)
    torch.testing.assert_close(read.bias, linear.bias.detach())


@pytest.mark.parametrize("bias", [True, False])
def test_a_patch_embedder_is_read_over_packed_tokens(bias: bool) -> None:
    torch.manual_seed(0)
    conv, latents = nn.Conv2d(4, 6, kernel_size=2, stride=2, bias=bias), torch.randn(2, 4, 6, 8)
    read = dense(conv)
    wanted = conv(latents).flatten(2).transpose(1, 2)
    torch.testing.assert_close(pack(latents, 2) @ read.weight.T + read.bias, wanted, atol=1e-5, rtol=1e-5)


def test_a_fused_map_comes_apart() -> None:
    torch.manual_seed(0)
    fused = dense(nn.Linear(4, 3 * 5 + 7))
    query, key, value = fused.split([5, 5, 5])
    assert torch.equal(torch.cat((query.weight, key.weight, value.weight)), fused.weight[:15])
    assert torch.equal(value.bias, fused.bias[10:15])


def test_folding_a_modulation_in() -> None:
    torch.manual_seed(0)
    original = Dense(torch.randn(3, 5), torch.randn(3))
    shift, scale, x = torch.randn(5), torch.randn(5), torch.randn(4, 5)
    folded = original.after_modulation(shift, scale)
    wanted = ((1 + scale) * x + shift) @ original.weight.T + original.bias
    torch.testing.assert_close(x @ folded.weight.T + folded.bias, wanted)


def test_truncation_is_the_nearest_map_of_its_rank() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 8, dtype=torch.float64)
    singular = torch.linalg.svdvals(weight)
    down, up = truncate(weight, 2)
    assert down.shape == (2, 8) and up.shape == (6, 2)
    torch.testing.assert_close((weight - up @ down).norm(), singular[2:].norm())
    torch.testing.assert_close(down.norm(), up.norm())


def test_a_large_matrix_is_truncated_nearly_as_well_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinco.adapter.initialise.EXACT_SIDE", 32)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(96, 96, generator=generator))[0] for _ in range(2))
    singular = torch.linspace(1, 0, 96) ** 3
    weight = left @ torch.diag(singular) @ right
    state = torch.get_rng_state()
    down, up = truncate(weight, 8)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are its own"
    assert float((weight - up @ down).norm()) <= 1.01 * float(singular[8:].norm())
    torch.manual_seed(99)
    assert all(torch.equal(a, b) for a, b in zip((down, up), truncate(weight, 8), strict=True))


def test_a_layer_of_torchao_is_read_by_what_it_does() -> None:
    """It is a plain linear layer whose weight is none."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 32)
    weight, x = linear.weight.detach().clone(), torch.randn(3, 64)
    quantize_(linear, Int8WeightOnlyConfig())
    read = dense(linear)
    assert type(read.weight) is Tensor
    torch.testing.assert_close(x @ read.weight.T + read.bias, linear(x), atol=1e-4, rtol=1e-3)
    assert 0 < float((read.weight - weight).abs().max()) < 0.01
