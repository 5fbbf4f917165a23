"""Small random inputs of subject-aware attention, for its tests."""

from __future__ import annotations

import torch
from torch import Tensor

# Largest relative error (norm of the difference over norm of the reference) allowed for outputs and gradients.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 3e-2}
HEADS = 3


def random_inputs(dtype: torch.dtype, tokens: int = 21, subject_tokens: int = 9, dim: int = 8) -> list[Tensor]:
    """q, k, v, ks, vs `[2, H, S, D]` with the memory layout that the processors hand over."""
    generator = torch.Generator().manual_seed(0)
    lengths = (tokens, tokens, tokens, subject_tokens, subject_tokens)
    return [
        torch.randn(2, length, HEADS, dim, generator=generator, dtype=torch.float64).to(dtype).transpose(1, 2)
        for length in lengths
    ]


def gates_of(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """a and b; b of both signs and near its bounds where there is one per head."""
    gate = torch.tensor([0.7, -0.95, 0.3], dtype=dtype)[: max(1, shape[1] if len(shape) > 1 else 1)]
    return torch.ones(shape, dtype=dtype), gate.reshape(shape).clone()


def padding() -> Tensor:
    return torch.tensor([[True] * 9, [True] * 4 + [False] * 5])


def relative_error(value: Tensor, wanted: Tensor) -> float:
    value, wanted = value.detach().double(), wanted.detach().double()
    return float((value - wanted).norm() / wanted.norm())


def own_padding(tokens: int = 21) -> Tensor:
    """Which of the backbone's own keys may be attended to: text padding at the end, and in the middle."""
    keep = torch.ones(2, tokens, dtype=torch.bool)
    keep[0, -tokens // 3 :] = False
    keep[1, 1] = False
    return keep
