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


def test_several_subjects_do_not_stretch() -> None:
    with pytest.raises(ValueError, match="2 subjects cannot be expanded to a batch of 3"):
        _subject(2).expand(3)
