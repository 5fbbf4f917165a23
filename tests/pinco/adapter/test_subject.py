from __future__ import annotations

import pytest
import torch

from pinco.adapter.subject import Subject


def _subject(batch: int = 1) -> Subject:
    pair = (torch.randn(batch, 3, 2, 4), torch.randn(batch, 3, 2, 4))
    return Subject(
        tokens=torch.randn(batch, 3, 8),
        grid=(2, 4),
        index=torch.arange(3).expand(batch, 3),
        keep=torch.ones(batch, 3, dtype=torch.bool),
        cache={0: pair, 1: None},
    )


def test_one_subject_serves_a_batch_without_copies() -> None:
    one = _subject()
    many = one.expand(5)
    assert many.batch == 5 and many.latent_tokens == 8
    assert many.index is not None and many.index.shape == (5, 3)
    assert many.keep is not None and many.keep.shape == (5, 3)
    assert many.cache is not None and many.cache[0] is not None and many.cache[1] is None
    assert many.cache[0][0].shape == (5, 3, 2, 4)
    assert many.tokens.data_ptr() == one.tokens.data_ptr()
    assert torch.equal(many.tokens[4], one.tokens[0])


def test_the_right_batch_is_left_alone() -> None:
    subject = _subject(2)
    assert subject.expand(2) is subject


def test_several_subjects_are_repeated_in_the_order_of_a_doubled_batch() -> None:
    two = _subject(2)
    four = two.expand(4)
    assert torch.equal(four.tokens, torch.cat([two.tokens] * 2))
    assert four.cache is not None and four.cache[0] is not None and two.cache is not None and two.cache[0] is not None
    assert torch.equal(four.cache[0][1], torch.cat([two.cache[0][1]] * 2))


def test_a_batch_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(ValueError, match="2 subjects cannot be repeated to a batch of 3"):
        _subject(2).expand(3)
