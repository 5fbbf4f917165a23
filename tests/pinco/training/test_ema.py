from __future__ import annotations

import pytest
import torch
from torch import nn

from pinco.training.ema import Ema


def _parameters(value: float = 0.0) -> dict[str, nn.Parameter]:
    return {"a": nn.Parameter(torch.full((2, 2), value)), "b": nn.Parameter(torch.full((3,), value))}


def test_starts_as_a_copy_of_the_weights() -> None:
    parameters = _parameters(2.0)
    ema = Ema(parameters, 0.9)
    with torch.no_grad():
        parameters["a"].fill_(5)
    assert ema.average["a"].eq(2).all()


def test_average_follows_its_formula_and_forgets_the_start_early() -> None:
    parameters = _parameters()
    ema = Ema(parameters, 0.4)
    expected = 0.0
    for step in range(12):
        with torch.no_grad():
            for p in parameters.values():
                p.fill_(step + 1.0)
        ema.update(step)
        decay = min(0.4, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1.0)
        for tensor in ema.average.values():
            assert tensor.flatten().tolist() == pytest.approx([expected] * tensor.numel(), rel=1e-6)


def test_applied_puts_the_own_weights_back_bit_for_bit_even_after_an_error() -> None:
    torch.manual_seed(0)
    parameters = {"a": nn.Parameter(torch.randn(4, 4))}
    ema = Ema(parameters, 0.9)
    ema.load({"a": torch.ones(4, 4)})
    own = parameters["a"].detach().clone()
    with ema.applied():
        assert parameters["a"].eq(1).all()
    assert torch.equal(parameters["a"], own)
    with pytest.raises(RuntimeError, match="validation broke"), ema.applied():
        raise RuntimeError("validation broke")
    assert torch.equal(parameters["a"], own)


def test_keep_leaves_the_average_in_the_model_without_sharing_its_memory() -> None:
    parameters = _parameters(1.0)
    ema = Ema(parameters, 0.9)
    ema.load({name: torch.full_like(p, 7.0) for name, p in parameters.items()})
    ema.keep()
    assert all(p.eq(7).all() for p in parameters.values())
    assert all(p.requires_grad for p in parameters.values())
    with torch.no_grad():
        parameters["a"].zero_()
    assert ema.average["a"].eq(7).all()


def test_average_takes_no_gradient() -> None:
    ema = Ema(_parameters(), 0.9)
    assert not any(t.requires_grad for t in ema.average.values())
