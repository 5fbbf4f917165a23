"""The two ways by which a subject reaches the attentions; what both promise is in `suite`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from pinco.adapter import PincoAdapter
from tests.pinco.adapter.odd_family import OddTransformer
from tests.pinco.adapter.suite import SMALL
from tests.pinco.adapter.test_odd_family import OddSuite

Seen = list[Any]


def _watch(adapter: PincoAdapter) -> Seen:
    """The subjects that reach the first attention."""
    seen: Seen = []
    adapter.attentions()[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs.get("subject")), with_kwargs=True
    )
    return seen


@torch.no_grad()
def test_an_argument_carries_the_subject_where_there_is_one(
    make_adapter: Callable[..., PincoAdapter],
    transformer: FluxTransformer2DModel,
    inputs: dict[str, Any],
    subject_inputs: tuple[Tensor, Tensor],
) -> None:
    adapter = make_adapter().attach(transformer)
    seen, subject = _watch(adapter), adapter.encode(*subject_inputs)
    with adapter.using(subject) as kwargs:
        assert kwargs
        transformer(**inputs, **kwargs)
        transformer(**inputs)  # nothing but the argument carries it
    assert seen == [subject, None]


@torch.no_grad()
def test_hooks_carry_the_subject_inside_the_block_and_no_further() -> None:
    suite = OddSuite()
    backbone = suite.new_backbone()
    adapter = suite.new_adapter(backbone).attach(backbone)
    inputs = suite.new_inputs(backbone, 2, SMALL)
    one, other = (adapter.encode(*suite.new_subject_inputs(backbone)) for _ in range(2))
    seen = _watch(adapter)
    backbone(**inputs)
    with adapter.using(one) as kwargs:
        assert kwargs == {}
        backbone(**inputs)
        with adapter.using(other):
            backbone(**inputs)
        backbone(**inputs)
    backbone(**inputs)
    assert [subject is one or (subject is other and "other") for subject in seen] == [False, True, "other", True, False]


@torch.no_grad()
def test_an_error_inside_the_block_takes_the_subject_back() -> None:
    suite = OddSuite()
    backbone: OddTransformer = suite.new_backbone()
    adapter = suite.new_adapter(backbone).attach(backbone)
    seen = _watch(adapter)
    with pytest.raises(KeyError), adapter.using(adapter.encode(*suite.new_subject_inputs(backbone))):
        raise KeyError("a caller's own error")
    backbone(**suite.new_inputs(backbone, 2, SMALL))
    assert seen == [None]


@torch.no_grad()
def test_a_subject_turned_on_its_side_is_refused_where_the_latents_have_two_sides() -> None:
    suite = OddSuite()
    backbone = suite.new_backbone()
    adapter = suite.new_adapter(backbone).attach(backbone)
    subject = adapter.encode(*suite.new_subject_inputs(backbone))
    inputs = suite.new_inputs(backbone, 2, (5, 4))
    with pytest.raises(ValueError, match="encoded for 4 x 5 tokens, the latents have 5 x 4"):
        suite.run(backbone, inputs, adapter, subject)
