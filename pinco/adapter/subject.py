"""A subject, encoded: what the extractor hands to every attention layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

KeyValue = tuple[Tensor, Tensor]
"""Subject keys (anchored) and values of one layer, each `[B, N_sub, H, head_dim]`."""


@dataclass(frozen=True)
class Subject:
    """Subject tokens `F` and where they lie; goes to the backbone as `joint_attention_kwargs={"subject": subject}`.

    tokens: `[B, N_sub, D_sub]`.
    grid: rows and columns of the latent's token grid.
    index: `[B, N_sub]` int64, the latent token each subject token sits on; `None` when all are kept, in order.
    keep: `[B, N_sub]` bool, `False` for padding; `None` when no sample is padded.
    cache: per layer number the keys and values, or `None` for a layer whose gates are all zero. A cache holds no
        gradients and belongs to the adapter's weights as they were when it was made.
    """

    tokens: Tensor
    grid: tuple[int, int]
    index: Tensor | None = None
    keep: Tensor | None = None
    cache: Mapping[int, KeyValue | None] | None = None

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.tokens.shape[0]

    @property
    def latent_tokens(self) -> int:
        """Number of tokens of the latent that the subject was encoded for."""
        return self.grid[0] * self.grid[1]

    def expand(self, batch: int) -> Self:
        """One subject for `batch` samples, without copying.

        Raises `ValueError` if there are several subjects and their number is not `batch`.
        """
        if self.batch == batch:
            return self
        if self.batch != 1:
            raise ValueError(f"{self.batch} subjects cannot be expanded to a batch of {batch}")

        def repeat(tensor: Tensor) -> Tensor:
            return tensor.expand(batch, *tensor.shape[1:])

        cache = self.cache
        if cache is not None:
            cache = {layer: pair and (repeat(pair[0]), repeat(pair[1])) for layer, pair in cache.items()}
        return replace(
            self,
            tokens=repeat(self.tokens),
            index=None if self.index is None else repeat(self.index),
            keep=None if self.keep is None else repeat(self.keep),
            cache=cache,
        )
