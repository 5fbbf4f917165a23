"""Prompt embeddings: one text-encoder call per distinct prompt, kept in main memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from cachetools import LRUCache

from pinco.pipelines.families.base import Embeddings

PROMPT_BYTES = 1 << 30
"""Embeddings that are kept; one of 512 tokens takes 2 to 15 MB."""


class PromptCache:
    """Remembers the embeddings of the prompts used last, as many as fit into a number of bytes.

    They lie in main memory, whatever device encoded them: on an accelerator they would take the place of images.
    """

    def __init__(self, encode: Callable[[str], Embeddings], size: int = PROMPT_BYTES) -> None:
        """An empty cache.

        Args:
            encode: Makes what is not remembered.
            size: Remember at most so many bytes.

        Raises:
            ValueError: A size below 1.
        """
        if size < 1:
            raise ValueError(f"a prompt cache holds at least one byte, not {size}")
        self._encode = encode
        self._known: LRUCache[str, Embeddings] = LRUCache(size, getsizeof=embedding_bytes)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, prompt: str) -> bool:
        return prompt in self._known

    def __setitem__(self, prompt: str, embeddings: Embeddings) -> None:
        """Remember the embedding of a prompt that was encoded elsewhere. One beyond the whole cache is not kept."""
        if embedding_bytes(embeddings) <= self._known.maxsize:
            self._known[prompt] = embeddings

    @torch.no_grad()
    def __getitem__(self, prompt: str) -> Embeddings:
        """The embedding of one prompt."""
        found: Embeddings | None = self._known.get(prompt)
        if found is None:
            found = moved(self._encode(prompt), "cpu")
            self[prompt] = found
        return found

    def fill(self, prompts: Iterable[str]) -> int:
        """Encode prompts ahead, in their order, until one more might push out the first of them.

        Returns:
            How many were encoded.
        """
        encoded = spent = 0
        for prompt in dict.fromkeys(prompts):
            encoded += prompt not in self._known
            size = embedding_bytes(self[prompt])
            spent += size
            if spent + size > self._known.maxsize:
                break
        return encoded


def embedding_bytes(value: Any) -> int:
    """Bytes of all tensors in nested mappings and lists."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(embedding_bytes(part) for part in value.values())
    return sum(embedding_bytes(part) for part in value) if isinstance(value, list | tuple) else 0


def moved(value: Any, device: torch.device | str) -> Any:
    """The same with all tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: moved(part, device) for name, part in value.items()}
    return [moved(part, device) for part in value] if isinstance(value, list | tuple) else value
