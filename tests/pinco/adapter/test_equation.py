"""The equation as it stands, against attention written with softmax."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pinco.adapter.equation import reference, separate
from tests.pinco.adapter.attention_inputs import HEADS, gates_of, own_padding, padding, random_inputs


def _softmax(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if allowed is not None:
        scores = scores.masked_fill(~allowed[:, None, None], float("-inf"))
    return scores.softmax(-1) @ v


@pytest.mark.parametrize("padded", [False, True], ids=["all", "padded"])
def test_the_separate_form_is_its_equation_and_has_its_gradient(padded: bool) -> None:
    inputs = [one.requires_grad_() for one in random_inputs(torch.float64, tokens=3, subject_tokens=9, dim=2)]
    a, b = (gate.requires_grad_() for gate in gates_of((1, HEADS, 1, 1), torch.float64))
    keep, keep_own = (padding(), own_padding(3)) if padded else (None, None)
    q, k, v, ks, vs = inputs
    wanted = a * _softmax(q, k, v, keep_own) + b * _softmax(q, ks, vs, keep)
    torch.testing.assert_close(separate(*inputs, a, b, keep, keep_own), wanted, atol=1e-12, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda *tensors: separate(*tensors, keep, keep_own), (*inputs, a, b))


@pytest.mark.parametrize("padded", [False, True], ids=["all", "padded"])
def test_the_joint_form_is_its_equation(padded: bool) -> None:
    q, k, v, ks, vs = random_inputs(torch.float64)
    a, b = gates_of((1, HEADS, 1, 1), torch.float64)
    keep, keep_own = (padding(), own_padding()) if padded else (None, None)
    both = torch.cat((own_padding(), padding()), dim=1) if padded else None
    joined = _softmax(q, torch.cat((k, ks), dim=2), torch.cat((v, vs), dim=2), both)
    wanted = a * _softmax(q, k, v, keep_own) + b * joined
    out = reference(q, k, v, ks, vs, a, b, keep, keep_own)
    torch.testing.assert_close(out, wanted, atol=1e-12, rtol=1e-12)


def test_runs_of_equal_length_need_no_mask_in_the_separate_form() -> None:
    """What stands behind a sample's length is never read, and gets no gradient."""
    q, k, v, ks, vs = (one.requires_grad_() for one in random_inputs(torch.float64))
    gates = gates_of((), torch.float64)
    wanted = separate(q, k, v, ks, vs, *gates, padding())
    out = separate(q, k, v, ks, vs, *gates, runs=((0, 1, 9), (1, 2, 4)))
    torch.testing.assert_close(out, wanted, atol=1e-12, rtol=1e-12)
    gradients = [torch.autograd.grad(one.square().sum(), (q, ks, vs)) for one in (wanted, out)]
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(second, first, atol=1e-12, rtol=1e-12)
    assert not bool(gradients[1][1][1, :, 4:].any())
