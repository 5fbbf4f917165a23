from __future__ import annotations

import pytest
import torch
from torch import nn

from pinco.training.ema import Ema


def _parameters(value: float = 0.0) -> dict[str, nn.Parameter]:
    return {"a": nn.Parameter(torch.full((2, 2), value)), "b": nn.Parameter(torch.full((3,), value))}


def _fill(parameters: dict[str, nn.Parameter], value: float) -> None:
    with torch.no_grad():
        for p in parameters.values():
            p.fill_(value)


def test_starts_as_a_copy_of_the_weights() -> None:
    parameters = _parameters(2.0)
    ema = Ema(parameters, 0.9)
    _fill(parameters, 5.0)
    assert list(ema.average) == ["a", "b"]
    assert all(tensor.eq(2).all() for tensor in ema.average.values())


def test_average_follows_its_formula() -> None:
    parameters = _parameters(100.0)
    ema = Ema(parameters, 0.4)
    expected = 100.0
    for step in range(12):
        _fill(parameters, step + 1.0)
        ema.update()
        decay = min(0.4, (1 + step) / (10 + step)) if step else 0.0
        expected = decay * expected + (1 - decay) * (step + 1.0)
        for tensor in ema.average.values():
            assert tensor.flatten().tolist() == pytest.approx([expected] * tensor.numel(), rel=1e-6)


def test_average_of_bfloat16_weights_is_float32() -> None:
    parameters = {"a": nn.Parameter(torch.ones(4, dtype=torch.bfloat16))}
    ema = Ema(parameters, 0.999)
    ema.load({"a": torch.ones(4)}, updates=20_000)
    _fill(parameters, 1.0078125)  # the next bfloat16 above 1
    for _ in range(5):
        ema.update()
    assert ema.average["a"].dtype == torch.float32
    # Each step moves the average by a thousandth of that distance, which bfloat16 cannot hold.
    assert ema.average["a"].tolist() == pytest.approx([1 + 0.0078125 * (1 - 0.999**5)] * 4, rel=1e-6)
    with ema.applied():
        assert parameters["a"].dtype == torch.bfloat16
        assert parameters["a"].eq(1).all()
    assert parameters["a"].eq(1.0078125).all()


def test_resumed_average_equals_an_uninterrupted_one_bit_for_bit() -> None:
    torch.manual_seed(0)
    weights = [torch.randn(5, 3) for _ in range(8)]

    def follow(ema: Ema, parameter: nn.Parameter, values: list[torch.Tensor]) -> torch.Tensor:
        for value in values:
            with torch.no_grad():
                parameter.copy_(value)
            ema.update()
        return ema.average["a"]

    first, second, whole = (nn.Parameter(torch.zeros(5, 3)) for _ in range(3))
    saved = follow(Ema({"a": first}, 0.9), first, weights[:3])
    resumed = Ema({"a": second}, 0.9)
    resumed.load({"a": saved}, updates=3)
    assert torch.equal(follow(resumed, second, weights[3:]), follow(Ema({"a": whole}, 0.9), whole, weights))


def test_applied_puts_the_own_weights_back_bit_for_bit_even_after_an_error() -> None:
    torch.manual_seed(0)
    parameters = {"a": nn.Parameter(torch.randn(4, 4))}
    ema = Ema(parameters, 0.9)
    ema.load({"a": torch.ones(4, 4)}, updates=1)
    own = parameters["a"].detach().clone()
    with ema.applied():
        assert parameters["a"].eq(1).all()
    assert torch.equal(parameters["a"], own)
    with pytest.raises(RuntimeError, match="validation failed"), ema.applied():
        raise RuntimeError("validation failed")
    assert torch.equal(parameters["a"], own)


def test_keep_leaves_the_average_in_the_model_without_sharing_its_memory() -> None:
    parameters = _parameters(1.0)
    ema = Ema(parameters, 0.9)
    ema.load({name: torch.full_like(p, 7.0) for name, p in parameters.items()}, updates=1)
    ema.keep()
    assert all(p.eq(7).all() for p in parameters.values())
    assert all(p.requires_grad for p in parameters.values())
    _fill(parameters, 0.0)
    assert ema.average["a"].eq(7).all()


def test_average_takes_no_gradient() -> None:
    ema = Ema(_parameters(), 0.9)
    assert not any(t.requires_grad for t in ema.average.values())
