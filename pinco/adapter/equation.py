"""The equation of subject-aware attention as it stands, in both forms, by PyTorch's own attention.

The tests' oracle, what every kernel is held to at its first use, and the way out where no kernel serves. Shapes are
those of `pinco.adapter.attention`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Form = Literal["joint", "separate"]

Runs = tuple[tuple[int, int, int], ...]
"""Samples `start` to `stop` of a batch, and how many subject tokens each of them has: `(start, stop, tokens)`."""


def separate(
    q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor, keep: Tensor | None = None,
    keep_own: Tensor | None = None, runs: Runs | None = None,
) -> Tensor:  # fmt: skip
    """`a * A(Q, K, V) + b * A(Q, K_sub, V_sub)`: two attentions over different keys, nothing to merge.

    Args:
        q: See `pinco.adapter.attention.subject_attention`, as for the following seven.
        k: As there.
        v: As there.
        ks: As there.
        vs: As there.
        a: As there.
        b: As there.
        keep: As there; not read where `runs` are given.
        keep_own: As there.
        runs: The samples in runs of equal length, each of which gets a call without a mask.
    """
    own = F.scaled_dot_product_attention(q, k, v, attn_mask=None if keep_own is None else keep_own[:, None, None])
    if runs is None:
        subject = F.scaled_dot_product_attention(q, ks, vs, attn_mask=None if keep is None else keep[:, None, None])
    else:
        subject = torch.cat(
            [
                F.scaled_dot_product_attention(q[start:stop], ks[start:stop, :, :tokens], vs[start:stop, :, :tokens])
                for start, stop, tokens in runs
            ]
        )
    return a.to(own.dtype) * own + b.to(own.dtype) * subject


def reference(
    q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor, keep: Tensor | None = None,
    keep_own: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The joint equation in two calls, for any device."""
    mask = None
    if keep is not None or keep_own is not None:
        first = q.new_ones(k.shape[0], k.shape[2], dtype=torch.bool) if keep_own is None else keep_own
        second = q.new_ones(ks.shape[0], ks.shape[2], dtype=torch.bool) if keep is None else keep
        mask = torch.cat((first, second), dim=1)[:, None, None]
    own = F.scaled_dot_product_attention(q, k, v, attn_mask=None if keep_own is None else keep_own[:, None, None])
    joined = F.scaled_dot_product_attention(q, torch.cat((k, ks), dim=2), torch.cat((v, vs), dim=2), attn_mask=mask)
    return a.to(own.dtype) * own + b.to(own.dtype) * joined
