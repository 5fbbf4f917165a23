"""Prompt embeddings: one text-encoder call per distinct prompt."""

from __future__ import annotations

from collections.abc import Callable

import torch
from cachetools import LRUCache

from pinco.pipelines.families.base import Embeddings


class PromptCache:
    """Remembers the embeddings of the prompts used last (a long one takes 8 MB)."""

    def __init__(self, encode: Callable[[str], Embeddings], size: int) -> None:
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
        self._known: LRUCache[str, Embeddings] = LRUCache(size)

    def __len__(self) -> int:
        return len(self._known)

    def __setitem__(self, prompt: str, embeddings: Embeddings) -> None:
        """Remember the embedding of a prompt that was encoded elsewhere."""
        self._known[prompt] = embeddings

    @torch.no_grad()
    def __getitem__(self, prompt: str) -> Embeddings:
        """The embedding of one prompt."""
        found: Embeddings | None = self._known.get(prompt)
        if found is None:
            found = self._known[prompt] = self._encode(prompt)
        return found
