"""How large an adapter is: parameters, and the memory of a subject's keys and values. Works on the meta device too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from pinco.adapter.adapter import PincoAdapter

HALF_BYTES = 2
"""Bytes of a value in bfloat16 or float16."""


@dataclass(frozen=True)
class AdapterSizes:
    """Counts of an adapter.

    Attributes:
        extractor: Parameters of the part that makes subject tokens.
        projections: Parameters of all layers: projections, norms and gates.
        layers: Adapted attention layers.
        inner_dim: Width of a subject key or value, all heads together.
    """

    extractor: int
    projections: int
    layers: int
    inner_dim: int

    @property
    def parameters(self) -> int:
        """Of the whole adapter."""
        return self.extractor + self.projections

    def cache_bytes(self, subject_tokens: int, value_bytes: int = HALF_BYTES) -> int:
        """Memory of `K_sub` and `V_sub` of all layers for one canvas.

        Args:
            subject_tokens: N_sub; with pruning, the tokens that the product covers.
            value_bytes: Of one value.
        """
        return 2 * self.layers * subject_tokens * self.inner_dim * value_bytes


def adapter_sizes(adapter: PincoAdapter) -> AdapterSizes:
    """Count what an adapter holds."""
    return AdapterSizes(
        _parameters(adapter.extractor),
        _parameters(adapter.subject_layers),
        len(adapter.settings.layers),
        adapter.settings.inner_dim,
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
