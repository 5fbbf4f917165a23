from __future__ import annotations

import pytest
import torch

from pinco.pipelines.families.base import Embeddings
from pinco.pipelines.prompts import PromptCache


def _cache(size: int) -> tuple[PromptCache, list[str]]:
    encoded: list[str] = []

    def encode(prompt: str) -> Embeddings:
        encoded.append(prompt)
        return {"tokens": torch.zeros(1, 2, 3), "pooled": torch.full((1, 3), float(len(prompt)))}

    return PromptCache(encode, size), encoded


def test_a_prompt_is_encoded_once() -> None:
    cache, encoded = _cache(2)
    assert cache["snow"] is cache["snow"]
    assert encoded == ["snow"] and float(cache["snow"]["pooled"][0, 0]) == 4.0


def test_the_prompt_not_used_for_longest_goes_first() -> None:
    cache, encoded = _cache(2)
    for prompt in ("snow", "beach", "snow", "city", "snow", "beach"):
        cache[prompt]
    assert encoded == ["snow", "beach", "city", "beach"] and len(cache) == 2


def test_an_embedding_that_was_made_elsewhere_is_taken() -> None:
    cache, encoded = _cache(2)
    cache["snow"] = {"pooled": torch.ones(1, 3)}
    assert cache["snow"]["pooled"].sum() == 3 and encoded == []


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        _cache(0)
