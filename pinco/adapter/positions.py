"""The shared positional embedding anchor: subject keys take the position of the latent token they sit on.

Pinco, section 3.3 (arXiv 2412.03812). A backbone gives its image tokens positions in one of two ways, and the subject
keys take them in the same way: a rotary table turns the keys after their projection, an additive table is added to the
subject tokens before it, in the scale that the backbone adds it in (on the key path only; this second way is this
project's). With pruned subject tokens the rows
of a table are gathered per sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_EPS = 1e-6


class Positions(ABC):
    """Positions of the latent tokens of one image, row by row."""

    @abstractmethod
    def on_tokens(self, tokens: Tensor, index: Tensor | None, spread: Tensor | None = None) -> Tensor:
        """Subject tokens as the key projection takes them.

        Args:
            tokens: `[B, N_sub, D_sub]`.
            index: `[B, N_sub]`, the latent token that each subject token sits on; `None` for all, in order.
            spread: `[B, N_sub, 1]`, the tokens' standard deviation before they were normalised; `None` where they were
                not.

        Returns:
            `[B, N_sub, D_sub]`.
        """

    @abstractmethod
    def on_keys(self, keys: Tensor, index: Tensor | None) -> Tensor:
        """Projected subject keys with their positions.

        Args:
            keys: `[B, N_sub, H, D]`.
            index: as in `on_tokens`.

        Returns:
            `[B, N_sub, H, D]`.
        """


@dataclass(frozen=True)
class Rotary(Positions):
    """A rotary table (arXiv 2104.09864): pairs of neighbouring channels share one angle.

    Attributes:
        cos: `[N, D]`, or `[B, N, D]` where the samples of a batch differ.
        sin: as `cos`.
    """

    cos: Tensor
    sin: Tensor

    def on_tokens(self, tokens: Tensor, index: Tensor | None, spread: Tensor | None = None) -> Tensor:
        """The tokens as they are: a rotary table acts on the keys."""
        return tokens

    def on_keys(self, keys: Tensor, index: Tensor | None) -> Tensor:
        """The keys, each turned by the row of its latent token."""
        return rotate(keys, gather_rows(self.cos, index), gather_rows(self.sin, index))

    def last(self, tokens: int) -> Rotary:
        """The last rows of the table: the image's, where text comes first.

        Raises:
            ValueError: The table holds fewer than `tokens` rows.
        """
        if self.cos.shape[-2] < tokens:
            raise ValueError(f"the rotary table has {self.cos.shape[-2]} rows, fewer than the {tokens} image tokens")
        return Rotary(self.cos[..., -tokens:, :], self.sin[..., -tokens:, :])


@dataclass(frozen=True)
class Additive(Positions):
    """A table that is added to tokens as the backbone adds it to its embedded patches, and normalised with them.

    The backbone's first layer sees `norm(E x + p)`, and `F = norm(E x)` is normalised already. A layer norm does not
    change when its input is shifted or scaled, so that `norm(F + p / spread)` is the same, spread being the standard
    deviation of `E x`. To add `p` to F as it is would give positions another weight than they have in the backbone.

    Attributes:
        table: `[N, D_sub]`.
    """

    table: Tensor

    def on_tokens(self, tokens: Tensor, index: Tensor | None, spread: Tensor | None = None) -> Tensor:
        """The tokens, each with the row of its latent token added in the backbone's scale, normalised again.

        Raises:
            ValueError: The tokens are not as wide as the table.
        """
        if tokens.shape[-1] != self.table.shape[-1]:
            raise ValueError(
                f"the backbone adds positions of width {self.table.shape[-1]} to its tokens, the subject's are "
                f"{tokens.shape[-1]} wide: leave subject_dim out, or choose anchor=False"
            )
        rows = gather_rows(self.table, index).to(tokens)
        return F.layer_norm(tokens + (rows if spread is None else rows / spread), tokens.shape[-1:], eps=NORM_EPS)

    def on_keys(self, keys: Tensor, index: Tensor | None) -> Tensor:
        """The keys as they are: their positions came in before the projection."""
        return keys


def gather_rows(table: Tensor, index: Tensor | None) -> Tensor:
    """Rows of a table for each sample.

    Args:
        table: `[N, D]` or `[B, N, D]`.
        index: `[B, K]`, or `None` for every row.

    Returns:
        `[B, K, D]`; the table itself without an index.
    """
    if index is None:
        return table
    index = index.to(table.device)
    if table.ndim == 2:
        return table[index]
    return table.gather(1, index[..., None].expand(-1, -1, table.shape[-1]))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate by a table, computing in float32 as the backbones do.

    The same arithmetic as diffusers' `apply_rotary_emb(..., use_real_unbind_dim=-1)`, which takes no batched table.

    Args:
        x: `[B, S, H, D]`.
        cos: `[S, D]` or `[B, S, D]`.
        sin: as `cos`.
    """
    cos, sin = (table.to(x.device).unsqueeze(-2) for table in (cos, sin))
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-imaginary, real), dim=-1).flatten(-2)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)
