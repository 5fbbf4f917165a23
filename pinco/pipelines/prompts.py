"""Prompt embeddings: one text-encoder call per distinct prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from cachetools import LRUCache
from torch import Tensor

PromptEmbedding = Mapping[str, Tensor]
"""Tensors `[1, ...]` by the names of the pipeline's arguments."""


class PromptCache:
    """Remembers the embeddings of the prompts used last (a long one takes 8 MB)."""

    def __init__(self, encode: Callable[[str], PromptEmbedding], size: int) -> None:
        """An empty cache.

        Args:
            encode: Makes what is not remembered.
            size: Remember at most so many.

        Raises:
            ValueError: A size below 1.
        """
        if size < 1:
            raise ValueError(f"a prompt cache holds at least one prompt, not {size}")
        self._encode = encode
        self._known: LRUCache[str, PromptEmbedding] = LRUCache(size)

    def __len__(self) -> int:
        return len(self._known)

    @torch.no_grad()
    def __getitem__(self, prompt: str) -> PromptEmbedding:
        """The embedding of one prompt."""
        found: PromptEmbedding | None = self._known.get(prompt)
        if found is None:
            found = self._known[prompt] = self._encode(prompt)
        return found

    def batch(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The embeddings of several prompts, joined along their first axis."""
        embeddings = [self[prompt] for prompt in prompts]
        return {name: torch.cat([embedding[name] for embedding in embeddings]) for name in embeddings[0]}
