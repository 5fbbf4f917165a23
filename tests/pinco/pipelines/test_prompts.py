from __future__ import annotations

import pytest
import torch

from pinco.pipelines.families.base import Embeddings
from pinco.pipelines.prompts import PromptCache, embedding_bytes, moved

ONE = 4 * (2 * 3 + 3)
"""Bytes of one embedding."""


def _cache(size: int) -> tuple[PromptCache, list[str]]:
    encoded: list[str] = []

    def encode(prompt: str) -> Embeddings:
        encoded.append(prompt)
        return {"tokens": torch.zeros(1, 2, 3), "pooled": torch.full((1, 3), float(len(prompt)))}

    return PromptCache(encode, size), encoded


def test_a_prompt_is_encoded_once() -> None:
    cache, encoded = _cache(2 * ONE)
    assert cache["snow"] is cache["snow"]
    assert encoded == ["snow"] and float(cache["snow"]["pooled"][0, 0]) == 4.0


def test_the_prompt_not_used_for_longest_goes_first() -> None:
    cache, encoded = _cache(3 * ONE - 1)  # two, and not quite a third
    for prompt in ("snow", "beach", "snow", "city", "snow", "beach"):
        cache[prompt]
    assert encoded == ["snow", "beach", "city", "beach"] and len(cache) == 2


def test_an_embedding_that_was_made_elsewhere_is_taken() -> None:
    cache, encoded = _cache(2 * ONE)
    cache["snow"] = {"pooled": torch.ones(1, 3)}
    assert "snow" in cache and cache["snow"]["pooled"].sum() == 3 and encoded == []


def test_an_embedding_larger_than_everything_is_used_and_not_kept() -> None:
    cache, encoded = _cache(ONE - 1)
    assert cache["snow"]["tokens"].shape == (1, 2, 3)
    assert cache["snow"]["tokens"].shape == (1, 2, 3)
    assert encoded == ["snow", "snow"] and len(cache) == 0


def test_encoding_ahead_stops_before_it_pushes_out_what_comes_first() -> None:
    cache, encoded = _cache(3 * ONE)
    cache["old"]
    prompts = ["snow", "beach", "snow", "city", "forest", "lake"]
    assert cache.fill(prompts) == 3
    assert encoded == ["old", "snow", "beach", "city"]
    assert [prompt for prompt in prompts if prompt in cache] == ["snow", "beach", "snow", "city"]
    assert cache.fill(prompts) == 0, "they are there already"


def test_lists_of_tensors_count_and_move() -> None:
    travelling = {"prompt_embeds": [torch.zeros(5, 2, dtype=torch.float16)], "length": 5}
    assert embedding_bytes(travelling) == 20
    assert moved(travelling, "meta")["prompt_embeds"][0].device.type == "meta"
    assert moved(travelling, "meta")["length"] == 5


def test_embeddings_wait_in_main_memory() -> None:
    cache = PromptCache(lambda _: {"tokens": torch.zeros(1, 2, 3)}, ONE)
    assert cache["snow"]["tokens"].device.type == "cpu"


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        _cache(0)
