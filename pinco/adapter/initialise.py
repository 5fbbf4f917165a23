"""Reading the backbone's own projections, whatever they are stored as, to start the adapter from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pinco.adapter.backbone import at_hand, execution_device


@dataclass(frozen=True)
class Dense:
    """A linear map in float32 on the CPU.

    Attributes:
        weight: `[out, in]`.
        bias: `[out]`.
    """

    weight: Tensor
    bias: Tensor

    def after_modulation(self, shift: Tensor, scale: Tensor) -> Dense:
        """The map that takes x where this one takes `(1 + scale) * x + shift` (the backbone's adaptive layer norm)."""
        return Dense(self.weight * (1 + scale), self.bias + self.weight @ shift)

    def split(self, sizes: Sequence[int]) -> list[Dense]:
        """The maps that a fused one holds, in the order of its outputs; what `sizes` does not reach is left out."""
        weights, biases = self.weight[: sum(sizes)].split(list(sizes)), self.bias[: sum(sizes)].split(list(sizes))
        return [Dense(weight, bias) for weight, bias in zip(weights, biases, strict=True)]


@torch.no_grad()
def dense(linear: Any) -> Dense:
    """Read a linear layer, or a convolution whose stride is its kernel (a patch embedder), over packed tokens.

    A quantised layer is read by sending the unit vectors through it, so that any scheme will do. Of a layer that has a
    LoRA, what lies below it is read.

    Args:
        linear: The layer.

    Returns:
        The map; a convolution's is `[out, C p p]`, in the order of `pinco.adapter.tokens.pack`.
    """
    while hasattr(linear, "base_layer"):
        linear = linear.base_layer
    with at_hand(linear):
        plain = type(linear) is nn.Linear and type(linear.weight.data) is Tensor
        if plain or isinstance(linear, nn.Conv2d):
            weight, bias = linear.weight.detach().flatten(1).float().cpu(), linear.bias
            return Dense(weight, weight.new_zeros(weight.shape[0]) if bias is None else bias.detach().float().cpu())
    dtypes = (parameter.dtype for parameter in linear.parameters())
    half = next((dtype for dtype in dtypes if dtype in (torch.float16, torch.bfloat16)), torch.float32)
    unit = torch.eye(linear.in_features, device=execution_device(linear), dtype=half)
    offset = linear(torch.zeros_like(unit[:1]))[0].float()
    return Dense((linear(unit).float() - offset).T.contiguous().cpu(), offset.cpu())


EXACT_SIDE = 1024
OVERSAMPLING = 32
POWER_ITERATIONS = 4


def truncate(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The nearest map of a rank (Eckart-Young), the singular values shared evenly: both factors learn at the same pace.

    A large matrix is factorised by random projection with power iterations (Halko et al., arXiv 0909.4061): the whole
    decomposition of a hundred projections 3072 wide takes minutes. The draw is always the same.

    Args:
        weight: `[out, in]`.
        rank: Of the result.

    Returns:
        `down [rank, in]` and `up [out, rank]`.
    """
    if min(weight.shape) > EXACT_SIDE and rank + OVERSAMPLING < min(weight.shape):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            u, s, v = torch.svd_lowrank(weight, q=rank + OVERSAMPLING, niter=POWER_ITERATIONS)
        vh = v.mT
    else:
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    root = s[:rank].sqrt()
    return root[:, None] * vh[:rank], u[:, :rank] * root
