"""The joint form from one attention over the backbone's keys and one over the subject's, merged by their log-sum-exps.

With outputs and log-sum-exps `O1, l1 = A(Q, K, V)` and `O2, l2 = A(Q, K_sub, V_sub)`:
`w = sigmoid(l2 - l1)`, `A(Q, [K, K_sub], [V, V_sub]) = Of = lerp(O1, O2, w)`, `Z = a * O1 + b * Of`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pinco.adapter.equation import Runs
from pinco.adapter.kernels.base import Kernel, State

SMALLEST_WEIGHT = 1e-6
"""Floor for the weight of the backbone's share in the backward pass, which divides by it. Weights reach it only as
`b -> -1` (`a = 1`) or `b -> 1` (`a = 1 - b`); `PincoAdapter.scale` is bounded so that they never go below zero."""


def merged(
    q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor, kernel: Kernel,
    keep: Tensor | None = None, keep_own: Tensor | None = None, runs: Runs | None = None,
) -> Tensor:  # fmt: skip
    """Z by a kernel, with a gradient that is right.

    Args:
        q: See `pinco.adapter.attention.subject_attention`, as for the following six.
        k: As there.
        v: As there.
        ks: As there.
        vs: As there.
        a: As there.
        b: As there.
        kernel: Computes the two attentions; without a backward pass of its own, only where no gradient is wanted.
        keep: As there; not read where `runs` are given.
        keep_own: As there.
        runs: The samples in runs of equal length, each of which gets a call of its own over its own tokens.

    Returns:
        `[B, H, S, D]`.
    """
    bias_own = kernel.bias(keep_own, q)
    bias = kernel.bias(keep, q) if runs is None else None
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (q, k, v, ks, vs, a, b)):
        out: Tensor = _Merge.apply(q, k, v, ks, vs, a, b, bias_own, bias, kernel, runs)
        return out
    o1, l1, _ = kernel.forward(q, k, v, bias_own)
    o2, l2, _ = _attend_in_runs(kernel, q, ks, vs, bias, runs)
    of = torch.lerp(o1, o2, torch.sigmoid(l2 - l1).unsqueeze(-1).to(o1.dtype))
    return a.to(o1.dtype) * o1 + b.to(o1.dtype) * of


class _Merge(torch.autograd.Function):
    """The merge with its own backward pass.

    The log-sum-exp that the kernels return carries no gradient, so autograd through the merge would silently be wrong.
    `P1` and `P2` being the two attentions' probabilities, those over the joined keys are `[(1 - w) P1, w P2]`; the
    gradients of the scores (`.` is a row's dot product) are

        dS1 = P1 * (w1 dZ V^T - w1 dZ . Ot)        w1 = a + b (1 - w),  Ot = (a O1 + b (1 - w) Of) / w1
        dS2 = P2 * (b w dZ V_sub^T - b w dZ . Of)

    A stock backward kernel computes just this from `(dout; q, k, v, out, lse)`: `out` enters only in `dout . out`,
    `lse` only in P. So it is called twice, with `(w1 dZ; q, k, v, Ot, l1)` and `(b w dZ; q, ks, vs, Of, l2)`. The gates
    get `da = sum(dZ O1)` and `db = sum(dZ Of)` over the axes along which they were broadcast.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor,
                bias_own: Tensor | None, bias: Tensor | None, kernel: Kernel, runs: Runs | None) -> Tensor:  # fmt: skip
        o1, l1, own_state = kernel.forward(q, k, v, bias_own)
        o2, l2, states = _attend_in_runs(kernel, q, ks, vs, bias, runs)
        w = torch.sigmoid(l2 - l1).unsqueeze(-1)
        of = torch.lerp(o1, o2, w.to(o1.dtype))
        ctx.kernel, ctx.runs = kernel, runs
        ctx.save_for_backward(q, k, v, ks, vs, a, b, bias_own, bias, o1, of, w, *own_state, *states)
        return a.to(o1.dtype) * o1 + b.to(o1.dtype) * of

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, ks, vs, a, b, bias_own, bias, o1, of, w, *states = ctx.saved_tensors
        each = len(states) // (1 + (1 if ctx.runs is None else len(ctx.runs)))
        own_state, states = tuple(states[:each]), states[each:]
        need_q, need_k, need_v, need_ks, need_vs, need_a, need_b, *_ = ctx.needs_input_grad
        dq = dk = dv = dks = dvs = da = db = None
        if need_q or need_k or need_v:
            w1 = (a + b * (1 - w)).clamp_min(SMALLEST_WEIGHT)
            ot = ((a * o1 + (b * (1 - w)) * of) / w1).to(q.dtype)
            dq, dk, dv = ctx.kernel.backward((w1 * dz).to(q.dtype), q, k, v, ot, bias_own, own_state)
        if need_q or need_ks or need_vs:
            grad = (b * w * dz).to(q.dtype)
            dq_sub, dks, dvs = _attend_in_runs_backward(ctx.kernel, grad, q, ks, vs, of, bias, ctx.runs, tuple(states))
            dq = dq_sub if dq is None else dq + dq_sub
        if need_a:
            da = (dz.to(a.dtype) * o1.to(a.dtype)).sum_to_size(a.shape)
        if need_b:
            db = (dz.to(b.dtype) * of.to(b.dtype)).sum_to_size(b.shape)
        return dq, dk, dv, dks, dvs, da, db, None, None, None, None


def _attend_in_runs(
    kernel: Kernel, q: Tensor, ks: Tensor, vs: Tensor, bias: Tensor | None, runs: Runs | None
) -> tuple[Tensor, Tensor, State]:
    """The attention to the subjects: outputs, log-sum-exps, and the states of all runs behind each other."""
    if runs is None:
        return kernel.forward(q, ks, vs, bias)
    made = [
        kernel.forward(q[start:stop], ks[start:stop, :, :tokens], vs[start:stop, :, :tokens], None)
        for start, stop, tokens in runs
    ]
    outs, lses, states = zip(*made, strict=True)
    return torch.cat(outs), torch.cat(lses), tuple(tensor for state in states for tensor in state)


def _attend_in_runs_backward(
    kernel: Kernel, grad: Tensor, q: Tensor, ks: Tensor, vs: Tensor, out: Tensor, bias: Tensor | None,
    runs: Runs | None, states: State,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the queries and of the subjects' keys and values; zero for padding."""
    if runs is None:
        return kernel.backward(grad, q, ks, vs, out, bias, states)
    each = len(states) // len(runs)
    dq, dks, dvs = torch.empty_like(q), torch.zeros_like(ks), torch.zeros_like(vs)
    for number, (start, stop, tokens) in enumerate(runs):
        part = slice(start, stop)
        dq[part], dks[part, :, :tokens], dvs[part, :, :tokens] = kernel.backward(
            grad[part], q[part], ks[part, :, :tokens], vs[part, :, :tokens], out[part], None,
            states[number * each : (number + 1) * each],
        )  # fmt: skip
    return dq, dks, dvs
