from __future__ import annotations

import string

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pinco.toy.drawing.captions import vocabulary, words
from pinco.toy.drawing.products import COLOURS, KINDS
from pinco.toy.model.assemble import ToyParts
from pinco.toy.model.text import MAX_LENGTH, WIDTH, embed, new_clip, new_t5, new_tokenizer

TOKENIZER = new_tokenizer()
PROMPTS = ["", "a red mug on a wooden table", "in the snow, soft light", "A ZEPPELIN! on (sand)", "grass " * 60]


def test_embeddings_are_the_ones_that_the_pipeline_makes(parts: ToyParts) -> None:
    pooled, sequence = embed(parts.clip, parts.t5, parts.tokenizer, PROMPTS)
    assert pooled.shape == (len(PROMPTS), WIDTH)
    assert sequence.shape == (len(PROMPTS), MAX_LENGTH, WIDTH)
    pipe = parts.pipeline()
    for i, prompt in enumerate(PROMPTS):
        its_sequence, its_pooled, _ = pipe.encode_prompt(prompt, None, max_sequence_length=MAX_LENGTH)
        torch.testing.assert_close(sequence[i : i + 1], its_sequence, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(pooled[i : i + 1], its_pooled, rtol=1e-5, atol=1e-5)


@given(st.text(string.ascii_letters + string.digits + " .,;:!?'\"()-_/&+", max_size=60))
def test_the_tokenizer_splits_as_captions_do(text: str) -> None:
    known = set(vocabulary(list(KINDS), list(COLOURS)))
    inner = [w if w in known else "<unk>" for w in words(text)]
    expected = ["<s>", *inner[: MAX_LENGTH - 2], "</s>"]
    ids = TOKENIZER(text, truncation=True, max_length=MAX_LENGTH).input_ids
    assert TOKENIZER.convert_ids_to_tokens(ids) == expected


def test_every_known_word_has_its_own_token() -> None:
    known = vocabulary(list(KINDS), list(COLOURS))
    ids = TOKENIZER.convert_tokens_to_ids(known)
    assert len(set(ids)) == len(known)
    assert TOKENIZER.unk_token_id not in ids
    assert len(TOKENIZER) == len(known) + 4


def test_long_prompts_keep_their_end_token() -> None:
    ids = TOKENIZER("snow " * 100, truncation=True, max_length=MAX_LENGTH, padding="max_length").input_ids
    assert len(ids) == MAX_LENGTH
    assert ids[-1] == TOKENIZER.eos_token_id


@pytest.mark.parametrize(("one", "other"), [("on sand", "on snow"), ("a red mug", "a blue mug"), ("", "on marble")])
def test_another_word_gives_clearly_other_embeddings(parts: ToyParts, one: str, other: str) -> None:
    pooled, sequence = embed(parts.clip, parts.t5, parts.tokenizer, [one, other])
    for table in (pooled, sequence.flatten(1)):
        assert (table[0] - table[1]).norm() > 0.1 * table[0].norm()


def test_encoders_are_decided_by_the_seed_and_ready_to_use() -> None:
    made = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        made.append((new_clip(TOKENIZER), new_t5(TOKENIZER)))
    assert all(not model.training for pair in made for model in pair)
    results = [embed(clip, t5, TOKENIZER, ["a box on sand"]) for clip, t5 in made]
    for one, two, other in zip(*results, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, other)
        assert not one.requires_grad
