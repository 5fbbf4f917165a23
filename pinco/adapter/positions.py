"""The shared positional embedding anchor: subject keys take the position of the latent token they sit on.

METHOD: Pinco, section 3.3 (arXiv 2412.03812). For backbones with a rotary embedding the anchor is the very table of
the image tokens, applied to the subject keys; with pruned subject tokens the rows are gathered per sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

Rotary = tuple[Tensor, Tensor]
"""cos and sin, each `[N, D]` or, gathered per sample, `[B, N, D]`; pairs of channels share one angle."""


def image_rows(rotary: Rotary, tokens: int) -> Rotary:
    """The rows of the image tokens out of a table ordered `[text, image]`.

    Raises `ValueError` if the table holds fewer than `tokens` rows.
    """
    cos, sin = rotary
    if cos.shape[0] < tokens:
        raise ValueError(f"the rotary table has {cos.shape[0]} rows, fewer than the {tokens} image tokens")
    return cos[-tokens:], sin[-tokens:]


def gather_rows(rotary: Rotary, index: Tensor | None) -> Rotary:
    """Rows `[B, K, D]` of a table `[N, D]` for `index [B, K]`; the table itself where every token is kept."""
    if index is None:
        return rotary
    cos, sin = rotary
    index = index.to(cos.device)
    return cos[index], sin[index]


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate `x [B, S, H, D]` by a table `[S, D]` or `[B, S, D]`, computing in float32 as the backbone does.

    The same arithmetic as diffusers' `apply_rotary_emb(..., use_real_unbind_dim=-1)`, which takes no batched table.
    """
    cos, sin = (table.to(x.device).unsqueeze(-2) for table in rotary)
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-imaginary, real), dim=-1).flatten(-2)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)
