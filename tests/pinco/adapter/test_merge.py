"""The merge of two attentions against the equation, forward and backward, by the CPU's kernel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pinco.adapter.equation import Runs, reference, separate
from pinco.adapter.kernels.choice import CPU
from pinco.adapter.merge import SMALLEST_WEIGHT, merged
from tests.pinco.adapter.attention_inputs import (
    HEADS,
    TOLERANCE,
    gates_of,
    own_padding,
    padding,
    random_inputs,
    relative_error,
)

RUNS: Runs = ((0, 1, 9), (1, 2, 4))
"""The lengths of `padding`."""


def fused(
    q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, a: Tensor, b: Tensor, keep: Tensor | None = None,
    keep_own: Tensor | None = None,
) -> Tensor:  # fmt: skip
    return merged(q, k, v, ks, vs, a, b, CPU, keep, keep_own)


@pytest.mark.parametrize("own_padded", [False, True], ids=["", "own keys padded"])
@pytest.mark.parametrize("padded", [False, True], ids=["all", "padded"])
@pytest.mark.parametrize("shape", [(), (1, HEADS, 1, 1)], ids=["per-layer", "per-head"])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_fused_equals_reference_forward_and_backward(
    dtype: torch.dtype, shape: tuple[int, ...], padded: bool, own_padded: bool
) -> None:
    keep = padding() if padded else None
    keep_own = own_padding() if own_padded else None
    gate_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    results = []
    for compute in (reference, fused):
        inputs = [*random_inputs(dtype), *gates_of(shape, gate_dtype)]
        inputs = [tensor.requires_grad_() for tensor in inputs]
        out = compute(*inputs, keep, keep_own)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        results.append([out, *torch.autograd.grad((out.double() * weights).sum(), inputs)])
    for name, wanted, value in zip(("z", "q", "k", "v", "ks", "vs", "a", "b"), *results, strict=True):
        assert value.dtype == wanted.dtype, name
        assert relative_error(value, wanted) < TOLERANCE[dtype], name


@pytest.mark.parametrize("padded", [False, True], ids=["all", "padded"])
def test_gradcheck_in_double_precision(padded: bool) -> None:
    inputs = [tensor.requires_grad_() for tensor in random_inputs(torch.float64, tokens=3, subject_tokens=9, dim=2)]
    a, b = (gate.requires_grad_() for gate in gates_of((1, HEADS, 1, 1), torch.float64))
    keep, keep_own = (padding(), own_padding(3)) if padded else (None, None)
    assert torch.autograd.gradcheck(lambda *tensors: fused(*tensors, keep, keep_own), (*inputs, a, b))


def test_the_mixture_a_equals_one_minus_b_has_its_gradient() -> None:
    inputs = random_inputs(torch.float64)
    gradients = []
    for compute in (reference, fused):
        b = torch.tensor(0.999, dtype=torch.float64, requires_grad=True)
        gradients.append(torch.autograd.grad(compute(*inputs, 1 - b, b).square().sum(), b)[0])
    assert relative_error(gradients[1], gradients[0]) < TOLERANCE[torch.float64]


@pytest.mark.parametrize(("a", "b", "sign"), [(1.0, -1.0, -1), (0.0, 1.0, 1)], ids=["b to -1", "b to 1"])
def test_the_backbones_share_may_vanish(a: float, b: float, sign: int) -> None:
    """The weight w1 of the backbone's share, by which the backward pass divides, is zero in every row.

    At `a = 1` where b is -1 and the subject is not looked at; at `a = 1 - b` where b is 1 and nothing else is.
    """
    tensors = random_inputs(torch.float64)
    q, k, v, ks, vs = (tensor.abs() + 1 if number in (0, 3) else tensor for number, tensor in enumerate(tensors))
    q, k, v, vs = (tensor.requires_grad_() for tensor in (q, k, v, vs))
    ks = sign * (400 + 40 * ks)
    gradients = []
    for compute in (reference, fused):
        out = compute(q, k, v, ks, vs, *torch.tensor([a, b], dtype=torch.float64))
        gradients.append(torch.autograd.grad(out.square().sum() + out.sum(), (q, k, v, vs)))
    for wanted, value in zip(*gradients, strict=True):
        torch.testing.assert_close(value, wanted, atol=100 * SMALLEST_WEIGHT, rtol=1e-5)


def test_only_what_needs_a_gradient_gets_one() -> None:
    q, k, v, ks, vs = random_inputs(torch.float64)
    ks.requires_grad_()
    b = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    gradients = []
    for compute in (reference, fused):
        out = compute(q, k, v, ks, vs, torch.ones_like(b), b)
        gradients.append(torch.autograd.grad(out.square().sum(), (ks, b)))
    for wanted, value in zip(*gradients, strict=True):
        assert relative_error(value, wanted) < TOLERANCE[torch.float64]


def test_zero_gates_give_the_backbones_attention() -> None:
    q, k, v, ks, vs = random_inputs(torch.float32)
    own = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.equal(fused(q, k, v, ks, vs, torch.tensor(1.0), torch.tensor(0.0)), own)


def test_padding_is_never_attended() -> None:
    q, k, v, ks, vs = random_inputs(torch.float32)
    gates = gates_of((), torch.float32)
    keep = padding()
    before = [compute(q, k, v, ks, vs, *gates, keep) for compute in (fused, reference)]
    ks, vs = ks.clone(), vs.clone()
    ks[1, :, 4:], vs[1, :, 4:] = 50.0, 1e4
    after = [compute(q, k, v, ks, vs, *gates, keep) for compute in (fused, reference)]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)


def test_masked_own_keys_are_never_attended() -> None:
    q, k, v, ks, vs = random_inputs(torch.float32)
    gates = gates_of((), torch.float32)
    keep_own = own_padding()
    ways = (fused, reference, separate)
    before = [compute(q, k, v, ks, vs, *gates, None, keep_own) for compute in ways]
    k, v = k.clone(), v.clone()
    k[1, :, 1], v[1, :, 1] = 50.0, 1e4
    after = [compute(q, k, v, ks, vs, *gates, None, keep_own) for compute in ways]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)


def test_it_survives_checkpointing() -> None:
    inputs = [tensor.requires_grad_() for tensor in random_inputs(torch.float32)]
    gates = gates_of((), torch.float32)
    plain = torch.autograd.grad(fused(*inputs, *gates).square().sum(), inputs)
    again = torch.utils.checkpoint.checkpoint(fused, *inputs, *gates, use_reentrant=False)
    for wanted, value in zip(plain, torch.autograd.grad(again.square().sum(), inputs), strict=True):
        assert torch.equal(value, wanted)


@pytest.mark.parametrize("own_padded", [False, True], ids=["", "own keys padded"])
def test_runs_of_equal_length_equal_a_mask_forward_and_backward(own_padded: bool) -> None:
    keep_own = own_padding() if own_padded else None
    results = []
    for runs in (None, RUNS):
        inputs = [*random_inputs(torch.float64), *gates_of((1, HEADS, 1, 1), torch.float64)]
        inputs = [tensor.requires_grad_() for tensor in inputs]
        q, k, v, ks, vs, a, b = inputs
        keep = padding() if runs is None else None
        out = merged(q, k, v, ks, vs, a, b, CPU, keep, keep_own, runs)
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    for name, wanted, value in zip(("z", "q", "k", "v", "ks", "vs", "a", "b"), *results, strict=True):
        assert relative_error(value, wanted) < 1e-12, name
    assert not bool(results[1][4][1, :, 4:].any()) and not bool(results[1][5][1, :, 4:].any())


def test_a_sample_in_runs_is_what_it_is_alone() -> None:
    q, k, v, ks, vs = random_inputs(torch.float64)
    gates = gates_of((), torch.float64)
    together = merged(q, k, v, ks, vs, *gates, CPU, runs=RUNS)
    for start, stop, tokens in RUNS:
        own = slice(start, stop)
        alone = merged(q[own], k[own], v[own], ks[own, :, :tokens], vs[own, :, :tokens], *gates, CPU)
        assert relative_error(together[own], alone) < 1e-12
    ks[1, :, 4:], vs[1, :, 4:] = 50.0, 1e4  # padding
    ks[0], vs[0] = 1.0, 1e4  # the neighbour
    assert torch.equal(merged(q, k, v, ks, vs, *gates, CPU, runs=RUNS)[1], together[1])


def test_with_and_without_gradients_it_computes_the_same() -> None:
    inputs = random_inputs(torch.float32)
    gates = gates_of((), torch.float32)
    plain = fused(*inputs, *gates)
    tracked = fused(*(tensor.requires_grad_() for tensor in inputs), *gates)
    assert tracked.requires_grad and torch.equal(tracked, plain)


@pytest.mark.parametrize("runs", [None, RUNS], ids=["all", "in runs"])
def test_compiled_it_has_its_gradients_in_one_graph(runs: Runs | None) -> None:
    torch._dynamo.reset()
    gradients = []
    for compute in (merged, torch.compile(merged, backend="aot_eager", fullgraph=True)):
        inputs = [*random_inputs(torch.float64), *gates_of((1, HEADS, 1, 1), torch.float64)]
        q, k, v, ks, vs, a, b = (tensor.requires_grad_() for tensor in inputs)
        out = compute(q, k, v, ks, vs, a, b, CPU, runs=runs)
        gradients.append([out, *torch.autograd.grad(out.square().sum(), (q, k, v, ks, vs, a, b))])
    for eager, compiled in zip(*gradients, strict=True):
        assert relative_error(compiled, eager) < 1e-12
    torch._dynamo.reset()
