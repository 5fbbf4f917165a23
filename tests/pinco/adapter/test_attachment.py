"""The two ways by which a subject reaches the attentions; what both promise is in `suite`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers import ContextParallelConfig, FluxTransformer2DModel
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from pinco.adapter import ParallelBackboneError, PincoAdapter
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


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process group of two, of which the other does not exist: enough to split a backbone, not to run it."""
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    torch.distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("two_devices")
def test_a_backbone_that_is_split_over_devices_is_refused(
    make_adapter: Callable[..., PincoAdapter],
    transformer: FluxTransformer2DModel,
    inputs: dict[str, Any],
    subject_inputs: tuple[Tensor, Tensor],
) -> None:
    """Before and after it was split; its own layers get to know of it through the adapter's processors."""
    adapter = make_adapter().attach(transformer)
    original = adapter.attentions()[0].processor.base  # type: ignore[union-attr]
    transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
    assert original._parallel_config is transformer._parallel_config
    with (
        torch.no_grad(),
        adapter.using(adapter.encode(*subject_inputs)) as kwargs,
        pytest.raises(ParallelBackboneError, match="a backbone of its own"),
    ):
        transformer(**inputs, **kwargs)
    adapter.detach()
    with pytest.raises(ParallelBackboneError, match="enable_parallelism"):
        adapter.attach(transformer)
    assert not adapter.attached and not any(module._forward_pre_hooks for module in transformer.modules())
