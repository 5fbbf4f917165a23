"""Subject-aware attention in the two forms of Pinco, section 3.2 (arXiv 2412.03812).

    joint     Z = a * A(Q, K, V) + b * A(Q, [K, K_sub], [V, V_sub])      (MM-DiT)
    separate  Z = a * A(Q, K, V) + b * A(Q, K_sub, V_sub)                (DiT)

The joint form has two exact ways. `reference` writes the equation down with two SDPA calls, at the cost of
`2 N^2 + N N_sub` scores. `fused` needs `N^2 + N N_sub`: attention over the joined keys is a merge of two attentions
whose log-sum-exps are known, so the backbone's own attention `A(Q, K, V)` is computed once and used twice. The separate
form costs `N^2 + N N_sub` as it stands.

Shapes here are `[B, H, S, D]`, `a` and `b` broadcast against them (`[1, H, 1, 1]` for a gate per head).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_aten = torch.ops.aten

Form = Literal["joint", "separate"]

SMALLEST_WEIGHT = 1e-6
"""Floor for the weight of the backbone's share in the backward pass, which divides by it. Weights reach it only as
`b -> -1` (`a = 1`) or `b -> 1` (`a = 1 - b`); `PincoAdapter.scale` is bounded so that they never go below zero."""


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
) -> Tensor:
    """Compute Z; the joint form fused wherever there is a kernel for it.

    There is no lower limit of size: on the CPU `bench/attention.py` finds the fused way ahead of two SDPA calls from
    88 + 24 tokens (1.1 to 1.5 times, forward and backward) to 1024 + 512 (2 times and more).

    Args:
        q: `[B, H, S, D]`. All inputs are cast to its dtype (under autocast to autocast's, as SDPA would do): the fused
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

    Returns:
        `[B, H, S, D]`.
    """
    dtype = torch.get_autocast_dtype(q.device.type) if torch.is_autocast_enabled(q.device.type) else q.dtype
    q, k, v, ks, vs = (tensor.to(dtype) for tensor in (q, k, v, ks, vs))
    if form == "separate":
        return separate(q, k, v, ks, vs, a, b, keep, keep_own)
    compute = fused if can_fuse(q, keep, keep_own) else reference
    return compute(q, k, v, ks, vs, a, b, keep, keep_own)


def can_fuse(q: Tensor, keep: Tensor | None, keep_own: Tensor | None = None) -> bool:
    """Whether `fused` has a kernel for this device, dtype, head width and padding.

    The CPU kernel takes a mask of keys; the CUDA kernel takes none, so padded keys go through `reference` there (a
    batch of one subject never is padded).
    """
    if q.device.type == "cpu":
        return q.dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    if q.device.type == "cuda":
        half = q.dtype in (torch.float16, torch.bfloat16)
        fits = q.shape[-1] % 8 == 0 and q.shape[-1] <= 256
        unpadded = keep is None and keep_own is None
        return half and fits and unpadded and torch.cuda.get_device_capability(q.device) >= (8, 0)
    return False


def separate(
    q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor, keep: Tensor | None = None,
    keep_own: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """`a * A(Q, K, V) + b * A(Q, K_sub, V_sub)`: two attentions over different keys, nothing to merge."""
    own = F.scaled_dot_product_attention(q, k, v, attn_mask=None if keep_own is None else keep_own[:, None, None])
    subject = F.scaled_dot_product_attention(q, ks, vs, attn_mask=None if keep is None else keep[:, None, None])
    return a.to(own.dtype) * own + b.to(own.dtype) * subject


def reference(
    q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor, keep: Tensor | None = None,
    keep_own: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The joint equation as it stands, for any device: the tests' oracle, and the way out without a fused kernel."""
    mask = None
    if keep is not None or keep_own is not None:
        first = q.new_ones(k.shape[0], k.shape[2], dtype=torch.bool) if keep_own is None else keep_own
        second = q.new_ones(ks.shape[0], ks.shape[2], dtype=torch.bool) if keep is None else keep
        mask = torch.cat((first, second), dim=1)[:, None, None]
    own = F.scaled_dot_product_attention(q, k, v, attn_mask=None if keep_own is None else keep_own[:, None, None])
    joined = F.scaled_dot_product_attention(q, torch.cat((k, ks), dim=2), torch.cat((v, vs), dim=2), attn_mask=mask)
    return a.to(own.dtype) * own + b.to(own.dtype) * joined


def fused(
    q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor, keep: Tensor | None = None,
    keep_own: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Z from one attention over the backbone's keys and one over the subject's, merged by their log-sum-exps.

    With outputs and log-sum-exps `O1, l1 = A(Q, K, V)` and `O2, l2 = A(Q, K_sub, V_sub)`:
    `w = sigmoid(l2 - l1)`, `A(Q, [K, K_sub], [V, V_sub]) = Of = lerp(O1, O2, w)`, `Z = a * O1 + b * Of`.
    """
    merged: Tensor = _SubjectAttention.apply(q, k, v, ks, vs, a, b, _bias(keep_own, q), _bias(keep, q))
    return merged


def _bias(keep: Tensor | None, q: Tensor) -> Tensor | None:
    """`[B, 1, 1, S]` for the kernels: minus infinity where a key is not to be attended to."""
    if keep is None:
        return None
    bias = torch.zeros(keep.shape, dtype=q.dtype, device=q.device).masked_fill_(~keep, float("-inf"))
    return bias[:, None, None, :]


class _SubjectAttention(torch.autograd.Function):
    """The merge with its own backward pass.

    The log-sum-exp that the flash kernels return carries no gradient, so autograd through the merge would silently be
    wrong. `P1` and `P2` being the two attentions' probabilities, those over the joined keys are `[(1 - w) P1, w P2]`;
    the gradients of the scores (`.` is a row's dot product) are

        dS1 = P1 * (w1 dZ V^T - w1 dZ . Ot)        w1 = a + b (1 - w),  Ot = (a O1 + b (1 - w) Of) / w1
        dS2 = P2 * (b w dZ V_sub^T - b w dZ . Of)

    A stock backward kernel computes just this from `(dout; q, k, v, out, lse)`: `out` enters only in `dout . out`,
    `lse` only in P. So it is called twice, with `(w1 dZ; q, k, v, Ot, l1)` and `(b w dZ; q, ks, vs, Of, l2)`. The gates
    get `da = sum(dZ O1)` and `db = sum(dZ Of)` over the axes along which they were broadcast.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor,
                bias_own: Tensor | None, bias: Tensor | None) -> Tensor:  # fmt: skip
        o1, l1, state1 = _flash(q, k, v, bias_own)
        o2, l2, state2 = _flash(q, ks, vs, bias)
        w = torch.sigmoid(l2 - l1).unsqueeze(-1)
        of = torch.lerp(o1, o2, w.to(o1.dtype))
        ctx.save_for_backward(q, k, v, ks, vs, a, b, bias_own, bias, o1, l1, of, l2, *state1, *state2)
        return a.to(o1.dtype) * o1 + b.to(o1.dtype) * of

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, ks, vs, a, b, bias_own, bias, o1, l1, of, l2, *states = ctx.saved_tensors
        state1, state2 = states[: len(states) // 2], states[len(states) // 2 :]
        need_q, need_k, need_v, need_ks, need_vs, need_a, need_b, *_ = ctx.needs_input_grad
        w = torch.sigmoid(l2 - l1).unsqueeze(-1)
        dq = dk = dv = dks = dvs = da = db = None
        if need_q or need_k or need_v:
            w1 = (a + b * (1 - w)).clamp_min(SMALLEST_WEIGHT)
            ot = ((a * o1 + (b * (1 - w)) * of) / w1).to(q.dtype)
            dq, dk, dv = _flash_backward((w1 * dz).to(q.dtype), q, k, v, ot, l1, bias_own, state1)
        if need_q or need_ks or need_vs:
            dq_sub, dks, dvs = _flash_backward((b * w * dz).to(q.dtype), q, ks, vs, of, l2, bias, state2)
            dq = dq_sub if dq is None else dq + dq_sub
        if need_a:
            da = (dz.to(a.dtype) * o1.to(a.dtype)).sum_to_size(a.shape)
        if need_b:
            db = (dz.to(b.dtype) * of.to(b.dtype)).sum_to_size(b.shape)
        return dq, dk, dv, dks, dvs, da, db, None, None


def _flash(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Output, log-sum-exp `[B, H, S]` and what the device's backward kernel wants back."""
    if q.device.type == "cpu":
        out, lse = _aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias)
        return out, lse, ()
    out, lse, _, _, _, _, seed, offset, _ = _aten._scaled_dot_product_flash_attention(q, k, v)
    return out, lse, (seed, offset)


def _flash_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, bias: Tensor | None, state: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; `out` and `lse` need not be what the forward kernel returned (see the class above)."""
    if q.device.type == "cpu":
        gradients: tuple[Tensor, Tensor, Tensor] = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, lse, 0.0, False, attn_mask=bias
        )
        return gradients
    seed, offset = state
    gradients = _aten._scaled_dot_product_flash_attention_backward(
        grad, q, k, v, out, lse, None, None, q.shape[2], k.shape[2], 0.0, False, seed, offset
    )
    return gradients
