"""Fused subject-aware attention against the equation written down, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pinco.adapter import attention
from pinco.adapter.attention import SMALLEST_WEIGHT, can_fuse, fused, reference, separate, subject_attention

# Largest relative error (norm of the difference over norm of the reference) allowed for outputs and gradients.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 3e-2}
HEADS = 3


def _tensors(dtype: torch.dtype, tokens: int = 21, subject_tokens: int = 9, dim: int = 8) -> list[Tensor]:
    """q, k, v, ks, vs `[2, H, S, D]` with the memory layout that the processors hand over."""
    generator = torch.Generator().manual_seed(0)
    lengths = (tokens, tokens, tokens, subject_tokens, subject_tokens)
    return [
        torch.randn(2, length, HEADS, dim, generator=generator, dtype=torch.float64).to(dtype).transpose(1, 2)
        for length in lengths
    ]


def _gates(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """a and b; b of both signs and near its bounds where there is one per head."""
    gate = torch.tensor([0.7, -0.95, 0.3], dtype=dtype)[: max(1, shape[1] if len(shape) > 1 else 1)]
    return torch.ones(shape, dtype=dtype), gate.reshape(shape).clone()


def _padding() -> Tensor:
    return torch.tensor([[True] * 9, [True] * 4 + [False] * 5])


def _error(value: Tensor, wanted: Tensor) -> float:
    value, wanted = value.detach().double(), wanted.detach().double()
    return float((value - wanted).norm() / wanted.norm())


def _own_padding(tokens: int = 21) -> Tensor:
    """Which of the backbone's own keys may be attended to: text padding at the end, and in the middle."""
    keep = torch.ones(2, tokens, dtype=torch.bool)
    keep[0, -tokens // 3 :] = False
    keep[1, 1] = False
    return keep


@pytest.mark.parametrize("own_padded", [False, True], ids=["", "own keys padded"])
@pytest.mark.parametrize("padded", [False, True], ids=["all", "padded"])
@pytest.mark.parametrize("shape", [(), (1, HEADS, 1, 1)], ids=["per-layer", "per-head"])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_fused_equals_reference_forward_and_backward(
    dtype: torch.dtype, shape: tuple[int, ...], padded: bool, own_padded: bool
) -> None:
    keep = _padding() if padded else None
    keep_own = _own_padding() if own_padded else None
    gate_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    results = []
    for compute in (reference, fused):
        inputs = [*_tensors(dtype), *_gates(shape, gate_dtype)]
        inputs = [tensor.requires_grad_() for tensor in inputs]
        out = compute(*inputs, keep, keep_own)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        results.append([out, *torch.autograd.grad((out.double() * weights).sum(), inputs)])
    for name, wanted, value in zip(("z", "q", "k", "v", "ks", "vs", "a", "b"), *results, strict=True):
        assert value.dtype == wanted.dtype, name
        assert _error(value, wanted) < TOLERANCE[dtype], name


@pytest.mark.parametrize("padded", [False, True], ids=["all", "padded"])
def test_gradcheck_in_double_precision(padded: bool) -> None:
    inputs = [tensor.requires_grad_() for tensor in _tensors(torch.float64, tokens=3, subject_tokens=9, dim=2)]
    a, b = (gate.requires_grad_() for gate in _gates((1, HEADS, 1, 1), torch.float64))
    keep, keep_own = (_padding(), _own_padding(3)) if padded else (None, None)
    assert torch.autograd.gradcheck(lambda *tensors: fused(*tensors, keep, keep_own), (*inputs, a, b))


@pytest.mark.parametrize("padded", [False, True], ids=["all", "padded"])
def test_the_separate_form_is_its_equation_and_has_its_gradient(padded: bool) -> None:
    """Against attention written with softmax, forward; and gradcheck in double precision."""
    inputs = [tensor.requires_grad_() for tensor in _tensors(torch.float64, tokens=3, subject_tokens=9, dim=2)]
    a, b = (gate.requires_grad_() for gate in _gates((1, HEADS, 1, 1), torch.float64))
    keep, keep_own = (_padding(), _own_padding(3)) if padded else (None, None)

    def attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if allowed is not None:
            scores = scores.masked_fill(~allowed[:, None, None], float("-inf"))
        return scores.softmax(-1) @ v

    q, k, v, ks, vs = inputs
    wanted = a * attention(q, k, v, keep_own) + b * attention(q, ks, vs, keep)
    z = subject_attention(*inputs, a, b, keep, keep_own, "separate")
    torch.testing.assert_close(z, wanted, atol=1e-12, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda *tensors: separate(*tensors, keep, keep_own), (*inputs, a, b))


def test_the_two_forms_differ() -> None:
    tensors, gates = _tensors(torch.float32), _gates((), torch.float32)
    assert not torch.allclose(subject_attention(*tensors, *gates, form="separate"), subject_attention(*tensors, *gates))


def test_the_mixture_a_equals_one_minus_b_has_its_gradient() -> None:
    inputs = _tensors(torch.float64)
    gradients = []
    for compute in (reference, fused):
        b = torch.tensor(0.999, dtype=torch.float64, requires_grad=True)
        gradients.append(torch.autograd.grad(compute(*inputs, 1 - b, b).square().sum(), b)[0])
    assert _error(gradients[1], gradients[0]) < TOLERANCE[torch.float64]


@pytest.mark.parametrize(("a", "b", "sign"), [(1.0, -1.0, -1), (0.0, 1.0, 1)], ids=["b to -1", "b to 1"])
def test_the_backbones_share_may_vanish(a: float, b: float, sign: int) -> None:
    """The weight w1 of the backbone's share, by which the backward pass divides, is zero in every row.

    At `a = 1` where b is -1 and the subject is not looked at; at `a = 1 - b` where b is 1 and nothing else is.
    """
    tensors = _tensors(torch.float64)
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
    q, k, v, ks, vs = _tensors(torch.float64)
    ks.requires_grad_()
    b = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    gradients = []
    for compute in (reference, fused):
        out = compute(q, k, v, ks, vs, torch.ones_like(b), b)
        gradients.append(torch.autograd.grad(out.square().sum(), (ks, b)))
    for wanted, value in zip(*gradients, strict=True):
        assert _error(value, wanted) < TOLERANCE[torch.float64]


def test_zero_gates_give_the_backbones_attention() -> None:
    q, k, v, ks, vs = _tensors(torch.float32)
    own = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.equal(fused(q, k, v, ks, vs, torch.tensor(1.0), torch.tensor(0.0)), own)


def test_padding_is_never_attended() -> None:
    q, k, v, ks, vs = _tensors(torch.float32)
    gates = _gates((), torch.float32)
    keep = _padding()
    before = [compute(q, k, v, ks, vs, *gates, keep) for compute in (fused, reference)]
    ks, vs = ks.clone(), vs.clone()
    ks[1, :, 4:], vs[1, :, 4:] = 50.0, 1e4
    after = [compute(q, k, v, ks, vs, *gates, keep) for compute in (fused, reference)]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)


def test_masked_own_keys_are_never_attended() -> None:
    q, k, v, ks, vs = _tensors(torch.float32)
    gates = _gates((), torch.float32)
    keep_own = _own_padding()
    ways = (fused, reference, separate)
    before = [compute(q, k, v, ks, vs, *gates, None, keep_own) for compute in ways]
    k, v = k.clone(), v.clone()
    k[1, :, 1], v[1, :, 1] = 50.0, 1e4
    after = [compute(q, k, v, ks, vs, *gates, None, keep_own) for compute in ways]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)


def test_mixed_dtypes_are_cast_to_the_queries() -> None:
    q, k, v, ks, vs = _tensors(torch.bfloat16)
    gates = _gates((), torch.float32)
    out = subject_attention(q, k, v, ks.float(), vs.float(), *gates)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, fused(q, k, v, ks, vs, *gates))


def test_under_autocast_it_computes_in_its_dtype_like_sdpa() -> None:
    q, k, v, ks, vs = _tensors(torch.float32)
    ks.requires_grad_()
    gates = _gates((), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = subject_attention(q, k, v.bfloat16(), ks, vs, *gates)
    assert out.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(out.float().sum(), ks)
    assert gradient.dtype == torch.float32 and bool(gradient.abs().sum() > 0)


def test_an_unknown_device_takes_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, gates = _tensors(torch.float32), _gates((), torch.float32)
    assert can_fuse(tensors[0], None) and can_fuse(tensors[0], _padding())
    assert not can_fuse(tensors[0].to("meta"), None)
    monkeypatch.setattr(attention, "can_fuse", lambda *_: False)
    assert torch.equal(subject_attention(*tensors, *gates), reference(*tensors, *gates))


def test_the_cuda_kernels_take_these_arguments() -> None:
    """Without a GPU: the meta device checks names, order and shapes against PyTorch's own registration."""
    q, _, _, ks, vs = (tensor.to("meta") for tensor in _tensors(torch.bfloat16))
    out, lse, state = attention._flash(q, ks, vs, None)
    assert out.shape == q.shape and lse.shape == q.shape[:3] and lse.dtype == torch.float32
    gradients = attention._flash_backward(torch.empty_like(out), q, ks, vs, out, lse, None, list(state))
    assert [gradient.shape for gradient in gradients] == [q.shape, ks.shape, vs.shape]


def test_it_survives_checkpointing() -> None:
    inputs = [tensor.requires_grad_() for tensor in _tensors(torch.float32)]
    gates = _gates((), torch.float32)
    plain = torch.autograd.grad(fused(*inputs, *gates).square().sum(), inputs)
    again = torch.utils.checkpoint.checkpoint(fused, *inputs, *gates, use_reentrant=False)
    for wanted, value in zip(plain, torch.autograd.grad(again.square().sum(), inputs), strict=True):
        assert torch.equal(value, wanted)
