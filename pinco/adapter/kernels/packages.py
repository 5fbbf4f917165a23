"""Flash attention 2 and 3 from packages and from the hub, through the operations that diffusers has for them.

diffusers calls them for context parallelism, forward with a log-sum-exp and backward with an output and a log-sum-exp
of the caller's. They are private (`diffusers.models.attention_dispatch`), and hold everything in the layout
`[B, S, H, D]`, log-sum-exps as `[B, S, H]`. Where diffusers changes them, the check at the first use finds out.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

from diffusers.models import attention_dispatch as dispatch
from torch import Tensor

from pinco.adapter.kernels.base import Case, Kernel, State
from pinco.adapter.kernels.native import HALF, on_cuda

KEPT = 5
"""The operations keep q, k, v, output and log-sum-exp for their backward pass, and what else they need behind these."""


class DiffusersKernel(Kernel):
    """A kernel by two of diffusers' operations.

    Attributes:
        capability: The least compute capability.
        forward_op: Name of diffusers' operation.
        backward_op: As `forward_op`.
    """

    capability: ClassVar[tuple[int, int]] = (8, 0)
    forward_op: ClassVar[str]
    backward_op: ClassVar[str]

    def suits(self, case: Case) -> bool:
        """What the packages are compiled for."""
        fits = case.dtype in HALF and case.head_dim % 8 == 0 and case.head_dim <= 256
        return fits and on_cuda(case, self.capability)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        """As `Kernel.forward`."""
        context = _Context()
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out, lse = getattr(dispatch, self.forward_op)(context, q, k, v, return_lse=True)
        return out.transpose(1, 2), lse.transpose(1, 2), (lse, *context.saved_tensors[KEPT:])

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, bias: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Kernel.backward`."""
        lse, *more = state
        grad, q, k, v, out = (x.transpose(1, 2).contiguous() for x in (grad, q, k, v, out))
        context = _Context(
            dropout_p=0.0, scale=q.shape[-1] ** -0.5, is_causal=False, window_size=(-1, -1), softcap=0.0,
            alibi_slopes=None, deterministic=False, sm_margin=0,
        )  # fmt: skip
        context.save_for_backward(q, k, v, out, lse, *more)
        dq, dk, dv, *_ = getattr(dispatch, self.backward_op)(context, grad)
        return dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)


class Flash2(DiffusersKernel):
    """The package `flash-attn`."""

    name = "flash-attn 2"
    forward_op = "_flash_attention_forward_op"
    backward_op = "_flash_attention_backward_op"


class Flash2Hub(DiffusersKernel):
    """Flash attention 2 from the hub, which diffusers fetches when it is set as the backend."""

    name = "flash-attn 2 (hub)"
    forward_op = "_flash_attention_hub_forward_op"
    backward_op = "_flash_attention_hub_backward_op"


class Flash3Hub(DiffusersKernel):
    """Flash attention 3 from the hub, for Hopper."""

    name = "flash-attn 3 (hub)"
    capability = (9, 0)
    forward_op = "_flash_attention_3_hub_forward_op"
    backward_op = "_flash_attention_3_hub_backward_op"


class Flash3(Kernel):
    """The package `flash_attn_interface`. diffusers wraps its forward pass alone, so that it serves inference only."""

    name = "flash-attn 3"
    differentiable = False

    def suits(self, case: Case) -> bool:
        """What the package is compiled for."""
        fits = case.dtype in HALF and case.head_dim % 8 == 0 and case.head_dim <= 256
        return fits and on_cuda(case, (9, 0))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        """As `Kernel.forward`."""
        out, lse = dispatch._wrapped_flash_attn_3(*(x.transpose(1, 2) for x in (q, k, v)))
        return out.transpose(1, 2), lse.transpose(1, 2), (lse,)

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, bias: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """There is none, and the choice of a kernel never asks for one: `differentiable` says so.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("flash-attn 3 is wrapped without its backward pass")


class _Context(SimpleNamespace):
    """Stands in for the context of the autograd functions that the operations are written for."""

    saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors
