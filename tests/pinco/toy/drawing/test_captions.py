from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.toy.drawing.captions import PLACE_PHRASES, caption, vocabulary, words
from pinco.toy.drawing.places import PLACES
from pinco.toy.drawing.products import COLOURS, KINDS

KNOWN = vocabulary(list(KINDS), list(COLOURS))


@given(
    seed=st.integers(0, 2**63 - 1),
    place=st.sampled_from(sorted(PLACES)),
    kind=st.sampled_from(sorted(KINDS)),
    colour=st.sampled_from(sorted(COLOURS)),
)
def test_every_caption_has_only_known_words_and_names_the_place(seed: int, place: str, kind: str, colour: str) -> None:
    text = caption(np.random.default_rng(seed), place, kind, colour)
    assert set(words(text)) <= set(KNOWN)
    assert any(phrase in text for phrase in PLACE_PHRASES[place])
    assert "  " not in text
    assert text == text.strip()
    others = (set(KINDS) - {kind}) & set(words(text))
    assert not others


def _captions(count: int = 3000, kind: str = "watch", colour: str = "purple") -> list[str]:
    rng = np.random.default_rng(0)
    return [caption(rng, list(PLACES)[i % len(PLACES)], kind, colour) for i in range(count)]


def test_the_product_is_named_in_two_captions_of_three_and_its_colour_in_one() -> None:
    texts = _captions()
    assert np.mean(["watch" in words(t) for t in texts]) == pytest.approx(2 / 3, abs=0.03)
    assert np.mean(["purple" in words(t) for t in texts]) == pytest.approx(1 / 3, abs=0.03)
    assert not any("purple" in t and "watch" not in t for t in texts)


def test_a_caption_without_the_product_names_neither_kind_nor_colour() -> None:
    kinds = set(KINDS)
    assert not any(kinds & set(words(p)) for phrases in PLACE_PHRASES.values() for p in phrases)


@pytest.mark.parametrize(("colour", "article"), [("orange", "an orange"), ("red", "a red")])
def test_articles_are_right(colour: str, article: str) -> None:
    texts = [t for t in _captions(300, colour=colour) if colour in t and "watch" in t and f"{colour} watch" in t]
    assert texts
    assert all(f"{article} watch" in t for t in texts)


def test_captions_vary() -> None:
    texts = _captions(800)
    assert len(set(texts)) > 150
    assert all(any(phrase in t for t in texts) for phrases in PLACE_PHRASES.values() for phrase in phrases)


def test_no_phrase_belongs_to_two_places() -> None:
    phrases = [p for its in PLACE_PHRASES.values() for p in its]
    assert len(phrases) == len(set(phrases))


@given(st.text())
def test_words_are_lower_case_letters_and_digits(text: str) -> None:
    found = words(text)
    assert all(re.fullmatch("[a-z0-9]+", w) for w in found)
    assert words(" ".join(found)) == found


def test_the_vocabulary_is_sorted_without_repeats_and_has_every_name() -> None:
    assert sorted(set(KNOWN)) == KNOWN
    named = {w for name in (*KINDS, *COLOURS, *PLACES) for w in words(name)}
    assert named <= set(KNOWN)
    assert all(words(w) == [w] for w in KNOWN)
