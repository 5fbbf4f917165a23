"""What an attention kernel must offer so that two attentions can be merged, and for what it is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

State = tuple[Tensor, ...]
"""What a kernel's forward pass keeps for its backward pass."""


@dataclass(frozen=True)
class Case:
    """What a kernel is wanted for.

    Attributes:
        device: Of the tensors.
        dtype: Of queries, keys and values.
        head_dim: Width of a head.
        masked: Some keys must not be attended to.
        differentiable: Gradients are wanted.
        backend: diffusers' name of the attention backend that the bare layer would use.
    """

    device: torch.device
    dtype: torch.dtype
    head_dim: int
    masked: bool = False
    differentiable: bool = False
    backend: str = "native"


class Kernel(ABC):
    """Attention that also returns its log-sum-exp, forward and backward; one instance serves all calls.

    Attributes:
        name: For messages, and the choice.
        masks: Whether it takes a mask of keys.
        differentiable: Whether it has a backward pass.
        trusted: Whether it may be used without being held to `reference` at its first use.
    """

    name: ClassVar[str]
    masks: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    trusted: ClassVar[bool] = False

    @abstractmethod
    def suits(self, case: Case) -> bool:
        """Whether the kernel is made for the device, its dtype and its head width, as far as that is known before."""

    def bias(self, keep: Tensor | None, q: Tensor) -> Tensor | None:
        """A mask of keys as the kernel takes it.

        Args:
            keep: `[B, S_k]` bool, `False` for keys that nobody may attend to; `None` where all may be.
            q: The queries.
        """
        if keep is None:
            return None
        bias = torch.zeros(keep.shape, dtype=q.dtype, device=q.device).masked_fill_(~keep, float("-inf"))
        return bias[:, None, None, :]

    @abstractmethod
    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        """Attend.

        Args:
            q: `[B, H, S, D]`, as all others.
            k: `[B, H, S_k, D]`.
            v: `[B, H, S_k, D]`.
            bias: What `bias` made.

        Returns:
            The output `[B, H, S, D]`, the natural logarithm of the sum of the exponentials `[B, H, S]`, and the state,
            which holds the latter as the backward pass wants it.
        """

    @abstractmethod
    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, bias: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v.

        Args:
            grad: `[B, H, S, D]`.
            q: As in `forward`, and the following two.
            k: As there.
            v: As there.
            out: `[B, H, S, D]`, which need not be what `forward` returned (see `pinco.adapter.merge`).
            bias: As there.
            state: What `forward` kept.
        """
