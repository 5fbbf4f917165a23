"""What a processor does without a backbone; with one, see `suite`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pinco.adapter.positions import Positions, Rotary
from pinco.adapter.processor import Projections, SubjectProcessor, keys_values
from pinco.adapter.subject import Subject

PLACES = torch.arange(4.0)


class CountingPositions(Positions):
    """Adds the number of the latent token to every channel of a key."""

    def on_tokens(self, tokens: Tensor, index: Tensor | None, spread: Tensor | None = None) -> Tensor:
        return tokens

    def on_keys(self, keys: Tensor, index: Tensor | None) -> Tensor:
        rows = PLACES if index is None else PLACES[index]
        return keys + rows[..., None, None]


class PlainProcessor(SubjectProcessor):
    """Queries, keys and values are the states themselves, two heads wide; the call brings its positions."""

    def projections(self, attn: Any, image_tokens: int, states: Tensor) -> Projections:
        heads = states.unflatten(-1, (2, -1))
        return Projections(heads, heads, heads, positions=CountingPositions())

    def output(self, attn: Any, attended: Tensor, own: Projections, states: Tensor) -> Any:
        return attended


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = SimpleNamespace(value=torch.ones(2))

    def forward(self, tokens: Tensor, key_tokens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        heads = tokens.unflatten(-1, (2, -1))
        return heads, 2 * heads


def _adapter(**changes: Any) -> Any:
    values = {"anchor": True, "disabled": False, "weights": lambda layer: (torch.ones(()), torch.ones(()) / 2)}
    return SimpleNamespace(**(values | {"positions": lambda *_: None} | changes))


def _processor(**changes: Any) -> PlainProcessor:
    return PlainProcessor(0, Layer(), _adapter(**changes), lambda attn, states: "the original")  # type: ignore[arg-type]


@pytest.fixture
def states() -> Tensor:
    return torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def subject() -> Subject:
    tokens = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(1))
    return Subject(tokens, (2, 2), index=torch.tensor([[1, 3]]))


def test_the_original_answers_where_there_is_nothing_to_let_in(states: Tensor, subject: Subject) -> None:
    closed = {"weights": lambda layer: (torch.ones(()), torch.zeros(()))}
    assert _processor().attend(None, None, states) == "the original"
    assert _processor(disabled=True).attend(None, subject, states) == "the original"
    assert _processor(**closed).attend(None, subject, states) == "the original"
    cached = Subject(subject.tokens, subject.grid, cache={0: None})
    assert _processor().attend(None, cached, states) == "the original"
    assert isinstance(_processor().attend(None, subject, states), Tensor)


def test_keys_that_the_call_must_place_are_placed_in_the_call(states: Tensor, subject: Subject) -> None:
    """Where more than the grid decides the positions, the cache holds keys without them."""
    wanted = _processor().attend(None, subject, states)
    bare = keys_values(Layer(), subject, None)  # type: ignore[arg-type]
    cached = Subject(subject.tokens, subject.grid, subject.index, cache={0: bare})
    torch.testing.assert_close(_processor().attend(None, cached, states), wanted)
    free = _processor(anchor=False).attend(None, cached, states)
    assert not torch.allclose(free, wanted)
    placed = keys_values(Layer(), subject, CountingPositions())  # type: ignore[arg-type]
    anchored = Subject(subject.tokens, subject.grid, subject.index, cache={0: placed}, anchored=True)
    torch.testing.assert_close(_processor().attend(None, anchored, states), wanted)


def test_every_sample_gets_the_keys_of_its_own_places() -> None:
    subject = Subject(torch.randn(1, 2, 8), (2, 2), index=torch.tensor([[1, 3]]))
    angles = torch.arange(8.0).view(2, 4, 1).expand(-1, -1, 4)  # positions that differ between two samples
    keys, _ = keys_values(Layer(), subject, Rotary(angles.cos(), angles.sin()), batch=2)  # type: ignore[arg-type]
    assert keys.shape == (2, 2, 2, 4) and not torch.allclose(keys[0], keys[1])


def test_a_processor_cannot_be_made_from_its_class_alone() -> None:
    with pytest.raises(RuntimeError, match=r"adapter\.detach\(\) before load_ip_adapter"):
        PlainProcessor()
