"""A subject, encoded: what the extractor hands to every attention layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

KeyValue = tuple[Tensor, Tensor]
"""Subject keys and values of one layer, each `[B, N_sub, H, head_dim]`."""


@dataclass(frozen=True)
class Subject:
    """Subject tokens `F` and where they lie. `PincoAdapter.using` hands it to the backbone.

    Attributes:
        tokens: `[B, N_sub, D_sub]`.
        grid: Rows and columns of the latent's token grid.
        index: `[B, N_sub]` int64, the latent token each subject token sits on; `None` when all are kept, in order.
        keep: `[B, N_sub]` bool, `False` for padding; `None` when no sample is padded.
        lengths: Tokens of each sample, where the padding stands behind them; `None` when no sample is padded. The
            fastest attention kernels take no mask, and need none with the lengths.
        spread: `[B, N_sub, 1]`, each token's standard deviation before the norm at the extractor's end; `None` stands
            for tokens that were not normalised.
        cache: Per layer number the keys and values, or `None` for a layer whose gates are all zero. A cache holds no
            gradients and belongs to the adapter's weights as they were when it was made.
        anchored: Whether the cached keys carry their positions already. They do wherever the grid alone decides the
            positions; elsewhere each call brings them.
    """

    tokens: Tensor
    grid: tuple[int, int]
    index: Tensor | None = None
    keep: Tensor | None = None
    cache: Mapping[int, KeyValue | None] | None = None
    anchored: bool = False
    lengths: tuple[int, ...] | None = None
    spread: Tensor | None = None

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.tokens.shape[0]

    @property
    def cache_bytes(self) -> int:
        """What the cached keys and values occupy, in bytes; 0 without a cache."""
        pairs = [pair for pair in (self.cache or {}).values() if pair is not None]
        return sum(tensor.nbytes for pair in pairs for tensor in pair)

    @property
    def latent_tokens(self) -> int:
        """Number of tokens of the latent that the subject was encoded for."""
        return self.grid[0] * self.grid[1]

    def expand(self, batch: int) -> Self:
        """The subjects for a batch that is a multiple of their number, in the order of `torch.cat([x] * n)`.

        So one subject serves any batch, and several serve the doubled batch of classifier-free guidance.

        Raises:
            ValueError: `batch` is no multiple of the number of subjects.
        """
        if self.batch == batch:
            return self
        cache = self.cache
        if cache is not None:
            cache = {layer: pair and (tile(pair[0], batch), tile(pair[1], batch)) for layer, pair in cache.items()}
        return replace(
            self,
            tokens=tile(self.tokens, batch),
            index=None if self.index is None else tile(self.index, batch),
            keep=None if self.keep is None else tile(self.keep, batch),
            lengths=None if self.lengths is None else self.lengths * (batch // self.batch),
            spread=None if self.spread is None else tile(self.spread, batch),
            cache=cache,
        )


def tile(tensor: Tensor, batch: int) -> Tensor:
    """`tensor [B, ...]` repeated to `[batch, ...]`; without copying where B is 1.

    Raises:
        ValueError: `batch` is no multiple of B.
    """
    count = tensor.shape[0]
    if count == batch:
        return tensor
    if count == 1:
        return tensor.expand(batch, *tensor.shape[1:])
    if batch % count:
        raise ValueError(f"{count} subjects cannot be repeated to a batch of {batch}: it is no multiple of {count}")
    return tensor.repeat(batch // count, *(1 for _ in tensor.shape[1:]))
