"""PyTorch's own attention kernels that return a log-sum-exp: the CPU's flash, and flash, cuDNN and efficient on CUDA.

Their operations have no public name. Argument order and shapes are tested on the meta device, results at their first
use (`pinco.adapter.kernels.choice`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pinco.adapter.kernels.base import Case, Kernel, State

_aten = torch.ops.aten

HALF = (torch.float16, torch.bfloat16)
LSE_MULTIPLE = 32
"""The efficient kernel returns log-sum-exps for a multiple of so many rows."""
BIAS_MULTIPLE = 16
"""The efficient kernel wants a bias whose rows start at multiples of so many values."""


class CpuFlash(Kernel):
    """The CPU's kernel. The test suite runs on it, so that nothing is left to be checked at its first use."""

    name = "cpu"
    masks = True
    trusted = True

    def suits(self, case: Case) -> bool:
        """The CPU, in every floating type that its kernel is compiled for."""
        return case.device.type == "cpu" and case.dtype in (torch.float64, torch.float32, *HALF)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        """As `Kernel.forward`."""
        out, lse = _aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias)
        return out, lse, (lse,)

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, bias: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Kernel.backward`."""
        gradients: tuple[Tensor, Tensor, Tensor] = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, state[0], 0.0, False, attn_mask=bias
        )
        return gradients


class CudaFlash(Kernel):
    """Flash attention 2 as compiled into PyTorch."""

    name = "flash"

    def suits(self, case: Case) -> bool:
        """Ampere and later, in half precision."""
        return on_cuda(case, (8, 0)) and case.dtype in HALF and case.head_dim % 8 == 0 and case.head_dim <= 256

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        """As `Kernel.forward`."""
        out, lse, _, _, _, _, seed, offset, _ = _aten._scaled_dot_product_flash_attention(q, k, v)
        return out, lse, (lse, seed, offset)

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, bias: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Kernel.backward`."""
        lse, seed, offset = state
        gradients: tuple[Tensor, Tensor, Tensor] = _aten._scaled_dot_product_flash_attention_backward(
            grad, q, k, v, out, lse, None, None, q.shape[2], k.shape[2], 0.0, False, seed, offset
        )
        return gradients


class Cudnn(Kernel):
    """cuDNN's kernel, which PyTorch prefers on Hopper and Blackwell. It wants contiguous tensors."""

    name = "cudnn"
    masks = True

    def suits(self, case: Case) -> bool:
        """Ampere and later, in half precision."""
        return on_cuda(case, (8, 0)) and case.dtype in HALF and case.head_dim % 8 == 0 and case.head_dim <= 256

    def bias(self, keep: Tensor | None, q: Tensor) -> Tensor | None:
        """One row for all queries, without a copy."""
        bias = super().bias(keep, q)
        return None if bias is None else bias.expand(-1, q.shape[1], q.shape[2], -1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        """As `Kernel.forward`; cuDNN's log-sum-exp has a trailing axis."""
        q, k, v = (x.contiguous() for x in (q, k, v))
        made = _aten._scaled_dot_product_cudnn_attention(q, k, v, bias, True)
        out, lse, seed, offset = made[0], made[1], made[6], made[7]
        return out, lse.squeeze(-1), (lse, seed, offset)

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, bias: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Kernel.backward`."""
        grad, q, k, v, out = (x.contiguous() for x in (grad, q, k, v, out))
        lse, seed, offset = state
        gradients: tuple[Tensor, Tensor, Tensor] = _aten._scaled_dot_product_cudnn_attention_backward(
            grad, q, k, v, out, lse, seed, offset, bias, None, None, q.shape[2], k.shape[2], 0.0, False
        )
        return gradients


class Efficient(Kernel):
    """The memory-efficient kernel, the only one of CUDA's for single precision; it takes a mask."""

    name = "efficient"
    masks = True

    def suits(self, case: Case) -> bool:
        """Half and single precision."""
        multiple = 8 if case.dtype in HALF else 4
        return on_cuda(case, (5, 0)) and case.dtype in (torch.float32, *HALF) and case.head_dim % multiple == 0

    def bias(self, keep: Tensor | None, q: Tensor) -> Tensor | None:
        """One row for all heads and queries, cut out of an aligned one."""
        bias = super().bias(keep, q)
        if bias is None:
            return None
        keys = bias.shape[-1]
        return F.pad(bias, (0, -keys % BIAS_MULTIPLE))[..., :keys].expand(-1, q.shape[1], q.shape[2], -1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        """As `Kernel.forward`; the kernel's log-sum-exp is padded to a multiple of `LSE_MULTIPLE` rows."""
        out, lse, seed, offset = _aten._scaled_dot_product_efficient_attention(q, k, v, bias, True)
        return out, lse[..., : q.shape[2]], (lse, seed, offset)

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, bias: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Kernel.backward`."""
        lse, seed, offset = state
        wanted = [True, True, True, False]
        dq, dk, dv, _ = _aten._scaled_dot_product_efficient_attention_backward(
            grad, q, k, v, bias, out, lse, seed, offset, 0.0, wanted
        )
        return dq, dk, dv


def on_cuda(case: Case, capability: tuple[int, int]) -> bool:
    """Whether the case's device is a CUDA device of at least this compute capability."""
    return case.device.type == "cuda" and torch.cuda.get_device_capability(case.device) >= capability
