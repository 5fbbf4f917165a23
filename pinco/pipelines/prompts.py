"""Prompt embeddings: one text-encoder call per distinct prompt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class PromptEmbedding(NamedTuple):
    """Token embeddings `[1, L, D]` and the pooled embedding `[1, P]`."""

    tokens: Tensor
    pooled: Tensor


class PromptCache:
    """Remembers the embeddings of the prompts used last, at most `size` of them (a long T5 embedding takes 8 MB)."""

    def __init__(self, encode: Callable[[str], PromptEmbedding], size: int) -> None:
        """`encode` makes what is not remembered. Raises `ValueError` for a size below 1."""
        if size < 1:
            raise ValueError(f"a prompt cache holds at least one prompt, not {size}")
        self._encode = encode
        self._size = size
        self._known: OrderedDict[str, PromptEmbedding] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, prompt: str) -> PromptEmbedding:
        """The embedding of one prompt."""
        if prompt not in self._known:
            self._known[prompt] = self._encode(prompt)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        self._known.move_to_end(prompt)
        return self._known[prompt]
