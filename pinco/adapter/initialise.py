"""Reading the backbone's own projections, whatever they are stored as, to start the adapter from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Dense:
    """A linear map in float32 on the CPU: weight `[out, in]`, bias `[out]`."""

    weight: Tensor
    bias: Tensor

    def after_modulation(self, shift: Tensor, scale: Tensor) -> Dense:
        """The map that takes x where this one takes `(1 + scale) * x + shift` (the backbone's adaptive layer norm)."""
        return Dense(self.weight * (1 + scale), self.bias + self.weight @ shift)


@torch.no_grad()
def dense(linear: Any) -> Dense:
    """Read a linear layer; a quantised one by sending the unit vectors through it, so that any scheme will do."""
    plain = type(linear) is nn.Linear
    if plain:
        weight = linear.weight.detach().float().cpu()
        return Dense(weight, weight.new_zeros(weight.shape[0]) if linear.bias is None else linear.bias.float().cpu())
    device = next(linear.parameters()).device
    dtypes = (parameter.dtype for parameter in linear.parameters())
    half = next((dtype for dtype in dtypes if dtype in (torch.float16, torch.bfloat16)), torch.float32)
    unit = torch.eye(linear.in_features, device=device, dtype=half)
    offset = linear(torch.zeros_like(unit[:1]))[0].float()
    return Dense((linear(unit).float() - offset).T.contiguous().cpu(), offset.cpu())


def truncate(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The nearest map of that rank (Eckart-Young) as `down [rank, in]` and `up [out, rank]`, the singular values shared
    evenly, so that both factors learn at the same pace."""
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    root = s[:rank].sqrt()
    return root[:, None] * vh[:rank], u[:, :rank] * root
