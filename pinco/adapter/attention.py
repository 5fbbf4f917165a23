"""Subject-aware attention in the two forms of Pinco, section 3.2 (arXiv 2412.03812).

    joint     Z = a * A(Q, K, V) + b * A(Q, [K, K_sub], [V, V_sub])      (MM-DiT)
    separate  Z = a * A(Q, K, V) + b * A(Q, K_sub, V_sub)                (DiT)

The joint form has two exact ways. `reference` writes the equation down with two calls of PyTorch's attention, at the
cost of `2 N^2 + N N_sub` scores. `fused` needs `N^2 + N N_sub`: attention over the joined keys is a merge of two
attentions whose log-sum-exps are known, so the backbone's own attention `A(Q, K, V)` is computed once and used twice
(`pinco.adapter.merge`), by the kernel that the bare layer would use (`pinco.adapter.kernels`). The separate form costs
`N^2 + N N_sub` as it stands.

Shapes here are `[B, H, S, D]`, `a` and `b` broadcast against them (`[1, H, 1, 1]` for a gate per head).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from pinco.adapter.equation import Form, Runs, reference, separate
from pinco.adapter.kernels.choice import NATIVE, kernel_for
from pinco.adapter.merge import merged

MASKING_DEVICES = ("cpu",)
"""Devices whose fastest kernel takes a mask: a batch of subjects of several lengths is one call there."""


def subject_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ks: Tensor,
    vs: Tensor,
    a: Tensor,
    b: Tensor,
    keep: Tensor | None = None,
    keep_own: Tensor | None = None,
    form: Form = "joint",
    lengths: Sequence[int] | None = None,
    backend: str = NATIVE,
) -> Tensor:
    """Compute Z; the joint form fused wherever there is a kernel for it.

    There is no lower limit of size: on the CPU `bench/merged_attention.py` finds the fused way ahead of two SDPA calls
    from 88 + 24 tokens (1.1 to 1.5 times, forward and backward) to 1024 + 512 (2 times and more).

    Args:
        q: `[B, H, S, D]`. All inputs are cast to its dtype (under autocast to autocast's, as SDPA would do): the
            kernels refuse a mixture.
        k: `[B, H, S, D]`.
        v: `[B, H, S, D]`.
        ks: `[B, H, N_sub, D]`.
        vs: `[B, H, N_sub, D]`.
        a: The backbone's share; broadcasts against `q`.
        b: The subject's share; broadcasts against `q`.
        keep: `[B, N_sub]` bool, `False` for padding among the subject tokens.
        keep_own: `[B, S]` bool, `False` for the backbone's own keys that nobody may attend to.
        form: Which of the two equations.
        lengths: How many subject tokens each sample has, where the padding stands behind them. The fastest kernels of
            accelerators take no mask; with the lengths they need none.
        backend: diffusers' name of the attention backend that the bare layer would use.

    Returns:
        `[B, H, S, D]`.
    """
    dtype = torch.get_autocast_dtype(q.device.type) if torch.is_autocast_enabled(q.device.type) else q.dtype
    q, k, v, ks, vs = (tensor.to(dtype) for tensor in (q, k, v, ks, vs))
    runs = None
    if keep is not None and lengths is not None and q.device.type not in MASKING_DEVICES:
        runs = runs_of(lengths)
    if form == "separate":
        return separate(q, k, v, ks, vs, a, b, keep, keep_own, runs)
    return _joint(q, k, v, ks, vs, a, b, keep, keep_own, runs, backend)


def can_fuse(q: Tensor, keep: Tensor | None, keep_own: Tensor | None = None) -> bool:
    """Whether `fused` has a kernel for this device, dtype, head width and padding."""
    masked = keep is not None or keep_own is not None
    return kernel_for(q, masked=masked, differentiable=torch.is_grad_enabled()) is not None


def fused(
    q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor, keep: Tensor | None = None,
    keep_own: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The joint form by one attention over the backbone's keys and one over the subject's.

    Raises:
        ValueError: There is no kernel; `can_fuse` tells before.
    """
    kernel = kernel_for(
        q, masked=keep is not None or keep_own is not None, differentiable=_gradient_wanted(q, k, v, ks, vs, a, b)
    )
    if kernel is None:
        raise ValueError(f"no kernel merges attention on {q.device} in {q.dtype}: use reference")
    return merged(q, k, v, ks, vs, a, b, kernel, keep, keep_own)


def runs_of(lengths: Sequence[int]) -> Runs:
    """Samples of a batch in runs of equal length."""
    runs, start = [], 0
    for tokens, run in groupby(lengths):
        stop = start + len(list(run))
        runs.append((start, stop, tokens))
        start = stop
    return tuple(runs)


def _joint(
    q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor, keep: Tensor | None,
    keep_own: Tensor | None, runs: Runs | None, backend: str,
) -> Tensor:  # fmt: skip
    """The joint form, fused if there is a kernel."""
    masked = keep_own is not None or (keep is not None and runs is None)
    kernel = kernel_for(q, masked=masked, differentiable=_gradient_wanted(q, k, v, ks, vs, a, b), backend=backend)
    if kernel is None:
        return reference(q, k, v, ks, vs, a, b, keep, keep_own)
    return merged(q, k, v, ks, vs, a, b, kernel, keep, keep_own, runs)


def _gradient_wanted(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
