"""Which kernel merges: the one that the bare layer would use, else the next that computes the same as the equation.

At its first use on a device, in a dtype, a kernel is held to `pinco.adapter.equation.reference` on small random
tensors, forward and backward: the operations behind the kernels are private to PyTorch and diffusers, and the layout of
their log-sum-exps has changed before. What fails is left out with one line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from torch import Tensor
from torch.nn.attention import SDPBackend

from pinco.adapter.equation import reference
from pinco.adapter.kernels.base import Case, Kernel
from pinco.adapter.kernels.native import CpuFlash, CudaFlash, Cudnn, Efficient
from pinco.adapter.kernels.packages import Flash2, Flash2Hub, Flash3, Flash3Hub
from pinco.adapter.merge import merged

log = logging.getLogger(__name__)

CPU, FLASH, CUDNN, EFFICIENT = CpuFlash(), CudaFlash(), Cudnn(), Efficient()

AUTOMATIC: tuple[Kernel, ...] = (CPU, FLASH, CUDNN, EFFICIENT)
"""What is tried, in this order, behind the kernel that the bare layer would use."""

NATIVE = "native"
"""diffusers' name for PyTorch's attention, which chooses among its own kernels."""

NAMED: dict[str, Kernel] = {
    "_native_flash": FLASH,
    "_native_cudnn": CUDNN,
    "_native_efficient": EFFICIENT,
    "flash": Flash2(),
    "flash_hub": Flash2Hub(),
    "_flash_3": Flash3(),
    "_flash_3_hub": Flash3Hub(),
}
"""The kernels behind diffusers' attention backends. The other backends return no log-sum-exp that could be merged."""

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (*AUTOMATIC, *NAMED.values())}

OWN_CHOICE = {
    SDPBackend.FLASH_ATTENTION: FLASH,
    SDPBackend.CUDNN_ATTENTION: CUDNN,
    SDPBackend.EFFICIENT_ATTENTION: EFFICIENT,
}
"""The kernels that PyTorch's attention chooses among."""

TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""Largest relative error (norm of the difference over norm) against `reference` in single precision."""
OTHER_TOLERANCE = 1e-2

_chosen: dict[Case, str | None] = {}
_said: set[str] = set()


def active_backend(base: Any) -> str:
    """diffusers' name of the attention backend that a layer's original processor would use.

    Args:
        base: The processor. One without a backend of its own calls PyTorch's attention.
    """
    if not hasattr(base, "_attention_backend"):
        return NATIVE
    backend = base._attention_backend or _AttentionBackendRegistry._active_backend
    name: str = getattr(backend, "value", backend)
    return name


def kernel_for(q: Tensor, *, masked: bool, differentiable: bool, backend: str = NATIVE) -> Kernel | None:
    """The kernel for attention with these queries, checked at its first use.

    Args:
        q: `[B, H, S, D]`.
        masked: Some keys must not be attended to.
        differentiable: Gradients are wanted.
        backend: See `active_backend`.

    Returns:
        `None` where only the equation as it stands serves.
    """
    name = _name_for(q.device, q.dtype, q.shape[-1], masked, differentiable, backend)
    return None if name is None else KERNELS[name]


@torch.compiler.assume_constant_result
def _name_for(
    device: torch.device, dtype: torch.dtype, head_dim: int, masked: bool, differentiable: bool, backend: str
) -> str | None:
    """The kernel's name. The compiler asks once and keeps the answer: it must not trace the checks."""
    case = Case(device, dtype, head_dim, masked, differentiable, backend)
    if case not in _chosen:
        kernel = choose(case)
        _chosen[case] = None if kernel is None else kernel.name
    return _chosen[case]


def choose(case: Case) -> Kernel | None:
    """The first of the kernels made for the case that does what it should; says in the log which ones do not."""
    candidates = _candidates(case)
    reasons, chosen = [], None
    if case.device.type != "cpu" and case.backend != NATIVE and NAMED.get(case.backend) not in candidates:
        reasons.append(f"the backend {case.backend} has no kernel for this that returns a log-sum-exp")
    for kernel in candidates:
        reason = None if kernel.trusted else _failure(kernel, case)
        if reason is None:
            chosen = kernel
            break
        reasons.append(f"the kernel {kernel.name} {reason}")
    if reasons:
        instead = "attends twice (slower, and exact)" if chosen is None else f"takes the kernel {chosen.name}"
        _say_once(f"on {case.device} in {case.dtype} subject-aware attention {instead}: {'; '.join(reasons)}")
    return chosen


def disagreement(kernel: Kernel, case: Case) -> float:
    """Largest relative error of a kernel's output and gradients on small random tensors; NaN if it returns any."""
    with _apart(case):
        keep, keep_own = _random_masks(case) if case.masked else (None, None)
        results = []
        for merges in (False, True):
            dtype = case.dtype if merges else torch.promote_types(case.dtype, torch.float32)
            gates = [torch.tensor(value, device=case.device, dtype=torch.float32) for value in (1.0, 0.6)]
            inputs = [*(tensor.to(dtype) for tensor in _random(case)), *gates]
            q, k, v, ks, vs, a, b = (tensor.requires_grad_(case.differentiable) for tensor in inputs)
            if merges:
                out = merged(q, k, v, ks, vs, a, b, kernel, keep, keep_own)
            else:
                out = reference(q, k, v, ks, vs, a, b, keep, keep_own)
            gradients: tuple[Tensor, ...] = ()
            if case.differentiable:
                gradients = torch.autograd.grad(out.float().square().sum(), (q, k, v, ks, vs, a, b))
            results.append([out.detach(), *gradients])
        errors = [(value.float() - wanted.float()).norm() / wanted.float().norm()
                  for wanted, value in zip(*results, strict=True)]  # fmt: skip
        return float(torch.stack(errors).max())


def _failure(kernel: Kernel, case: Case) -> str | None:
    """What a kernel does wrong."""
    try:
        worst = disagreement(kernel, case)
    except Exception as error:
        return f"failed at its first use ({type(error).__name__}: {error})"
    allowed = TOLERANCE.get(case.dtype, OTHER_TOLERANCE)
    return None if worst <= allowed else f"is off the equation by {worst:.1%}, more than {allowed:.0%}"


def _candidates(case: Case) -> list[Kernel]:
    """Kernels made for the case, the bare layer's own first."""
    own = NAMED.get(case.backend)
    if own is None and case.device.type == "cuda":
        own = OWN_CHOICE.get(_own_choice(case))
    return [
        kernel
        for kernel in dict.fromkeys((*(() if own is None else (own,)), *AUTOMATIC))
        if (kernel.masks or not case.masked)
        and (kernel.differentiable or not case.differentiable)
        and kernel.suits(case)
    ]


def _own_choice(case: Case) -> SDPBackend:
    """What PyTorch's attention would take for tensors like these."""
    with _apart(case):
        q, k, v, *_ = (tensor.requires_grad_(case.differentiable) for tensor in _random(case))
        mask = q.new_zeros(1, 1, 1, k.shape[2]).expand(*q.shape[:3], -1) if case.masked else None
        return SDPBackend(torch._fused_sdp_choice(q, k, v, mask, 0.0, False))


@contextmanager
def _apart(case: Case) -> Iterator[None]:
    """Whatever modes the first use happens in: tensors with gradients, and no autocast."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(case.device.type, enabled=False):
        yield


def _random(case: Case) -> list[Tensor]:
    """q, k, v, ks, vs on the case's device, laid out as the processors hand them over."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, tokens, 3, case.head_dim, generator=generator).to(case.device, case.dtype).transpose(1, 2)
        for tokens in (40, 40, 40, 24, 24)
    ]


def _random_masks(case: Case) -> tuple[Tensor, Tensor]:
    """Which subject keys and which of the backbone's own keys may be attended to; uneven among the samples."""
    keep = torch.arange(24) < torch.tensor([[24], [13]])
    keep_own = torch.arange(40) < torch.tensor([[35], [40]])
    return keep.to(case.device), keep_own.to(case.device)


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        log.warning(message)
