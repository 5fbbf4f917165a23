"""What one attention layer of the backbone gets from the adapter: subject keys and values, and a gate.

Pinco, section 3.2 (arXiv 2412.03812); the zero-initialised tanh gate is LLaMA-Adapter's (arXiv 2303.16199).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pinco.adapter.config import KeyNorm, PincoConfig
from pinco.adapter.initialise import Dense, truncate


class LowRankLinear(nn.Module):
    """`x -> up(down(x))`, a linear map of rank `rank` at most."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., inputs]` to `[..., outputs]`."""
        result: Tensor = self.up(self.down(x))
        return result


class Gate(nn.Module):
    """`b = scale * tanh(g)`, one per head or one for the layer, zero at the start.

    A module of its own with a `forward`, because sequential offload moves the weights of modules that are called.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(size))

    def forward(self, scale: Tensor) -> Tensor:
        """`[1, H or 1, 1, 1]`, to be broadcast against `[B, H, S, D]`."""
        return (scale * torch.tanh(self.value)).view(1, -1, 1, 1)


class SubjectLayer(nn.Module):
    """`K_sub` and `V_sub` of one layer, projected from the subject tokens, and the layer's gate."""

    def __init__(self, config: PincoConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.to_k_sub = _projection(config)
        self.to_v_sub = _projection(config)
        self.norm_k_sub = _key_norm(config.key_norm, config.head_dim)
        self.gate = Gate(config.num_heads if config.gate == "head" else 1)

    def forward(self, tokens: Tensor, key_tokens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Project the subject tokens.

        Args:
            tokens: F, `[B, N_sub, D_sub]`.
            key_tokens: What the keys are made from instead, where F's positions are added before the projection.

        Returns:
            Keys (normalised, not rotated) and values, each `[B, N_sub, H, D]`.
        """
        keys = self.to_k_sub(tokens if key_tokens is None else key_tokens)
        keys = self.norm_k_sub(keys.unflatten(-1, (-1, self.head_dim)))
        values = self.to_v_sub(tokens).unflatten(-1, (-1, self.head_dim))
        return keys, values

    @torch.no_grad()
    def start_from(self, key: Dense, value: Dense, norm: Any) -> None:
        """Start from the backbone's own projections.

        Args:
            key: The key projection.
            value: The value projection.
            norm: The backbone's key norm, a module over `head_dim`, or `None` where it has none.
        """
        for projection, dense in ((self.to_k_sub, key), (self.to_v_sub, value)):
            if isinstance(projection, LowRankLinear):
                down, up = truncate(dense.weight, projection.down.out_features)
                projection.down.weight.copy_(down)
                projection.up.weight.copy_(up)
                projection.up.bias.copy_(dense.bias)
            else:
                projection.weight.copy_(dense.weight)
                projection.bias.copy_(dense.bias)
        for name, parameter in self.norm_k_sub.named_parameters():
            own = getattr(norm, name, None)
            if own is not None:
                parameter.copy_(own)


def _projection(config: PincoConfig) -> nn.Linear | LowRankLinear:
    if config.rank is None:
        return nn.Linear(config.subject_dim, config.inner_dim)
    return LowRankLinear(config.subject_dim, config.inner_dim, config.rank)


def _key_norm(kind: KeyNorm, head_dim: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return nn.LayerNorm(head_dim, eps=1e-6) if kind == "layer" else nn.RMSNorm(head_dim, eps=1e-6)
