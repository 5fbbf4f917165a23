"""From latents to tokens, and which of the tokens belong to the subject."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

COVERED = 0.5
"""A token belongs to the subject if any of its pixels is covered at least this much."""


def pack(latents: Tensor, patch_size: int) -> Tensor:
    """Latents to tokens, row by row, channels first within a token.

    Args:
        latents: `[B, C, h, w]`.
        patch_size: Latent pixels per token along one side.

    Returns:
        `[B, N, C p p]`.

    Raises:
        ValueError: The patches do not fit the latent.
    """
    if latents.shape[-2] % patch_size or latents.shape[-1] % patch_size:
        raise ValueError(
            f"a latent of {latents.shape[-1]} x {latents.shape[-2]} does not divide into patches of {patch_size}"
        )
    return F.pixel_unshuffle(latents, patch_size).flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of `pack`.

    Args:
        tokens: `[B, N, C p p]`.
        patch_size: Latent pixels per token along one side.
        grid: Rows and columns of tokens.

    Returns:
        `[B, C, h, w]`.
    """
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, grid), patch_size)


def covered_tokens(mask: Tensor, stride: int, dilation: int) -> Tensor:
    """Tokens under a mask.

    Args:
        mask: `[B, 1, H, W]` in 0..1.
        stride: Pixels per token along one side.
        dilation: Grow the mask by so many tokens to all eight sides.

    Returns:
        `[B, N]` bool.
    """
    grid = F.max_pool2d(mask.float(), stride)
    grid = (grid >= COVERED).float()
    if dilation:
        grid = F.max_pool2d(grid, 2 * dilation + 1, stride=1, padding=dilation)
    return grid.flatten(1) > 0


def select(covered: Tensor) -> tuple[Tensor, Tensor | None]:
    """Row numbers of the covered tokens, in order.

    Args:
        covered: `[B, N]` bool.

    Returns:
        Row numbers `[B, K]`, K being the largest count of any sample and padding pointing at token 0, and `[B, K]`
        bool that is `False` for padding, or `None` if nothing is padded.

    Raises:
        ValueError: Samples cover no token at all, so that there is no subject to attend to; they are named.
    """
    counts = covered.sum(dim=1)
    empty = [sample for sample, count in enumerate(counts.tolist()) if count == 0]
    if empty:
        raise ValueError(f"the mask covers no token in sample(s) {empty}: the product is missing or far too small")
    longest = int(counts.max())
    # A stable sort puts the covered tokens first and keeps their order.
    index = torch.argsort((~covered).to(torch.uint8), dim=1, stable=True)[:, :longest]
    if bool((counts == longest).all()):
        return index, None
    keep = torch.arange(longest, device=covered.device) < counts[:, None]
    return index.masked_fill(~keep, 0), keep


def gather(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows `index [B, K]` of `tokens [B, N, D]`."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
