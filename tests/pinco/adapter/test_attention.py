"""Which of the ways subject-aware attention takes; what each computes is tested beside it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pinco.adapter import attention
from pinco.adapter.attention import can_fuse, fused, runs_of, subject_attention
from pinco.adapter.equation import reference
from tests.pinco.adapter.attention_inputs import gates_of, padding, random_inputs


def test_the_two_forms_differ() -> None:
    tensors, gates = random_inputs(torch.float32), gates_of((), torch.float32)
    assert not torch.allclose(subject_attention(*tensors, *gates, form="separate"), subject_attention(*tensors, *gates))


def test_mixed_dtypes_are_cast_to_the_queries() -> None:
    q, k, v, ks, vs = random_inputs(torch.bfloat16)
    gates = gates_of((), torch.float32)
    out = subject_attention(q, k, v, ks.float(), vs.float(), *gates)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, fused(q, k, v, ks, vs, *gates))


def test_under_autocast_it_computes_in_its_dtype_like_sdpa() -> None:
    q, k, v, ks, vs = random_inputs(torch.float32)
    ks.requires_grad_()
    gates = gates_of((), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = subject_attention(q, k, v.bfloat16(), ks, vs, *gates)
    assert out.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(out.float().sum(), ks)
    assert gradient.dtype == torch.float32 and bool(gradient.abs().sum() > 0)


def test_an_unknown_device_takes_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, gates = random_inputs(torch.float32), gates_of((), torch.float32)
    assert can_fuse(tensors[0], None) and can_fuse(tensors[0], padding())
    assert not can_fuse(tensors[0].to("meta"), None)
    with pytest.raises(ValueError, match=r"no kernel merges attention on meta in torch\.float32: use reference"):
        fused(*(tensor.to("meta") for tensor in tensors), *gates)
    monkeypatch.setattr(attention, "kernel_for", lambda *_, **__: None)
    assert torch.equal(subject_attention(*tensors, *gates), reference(*tensors, *gates))


def test_runs_are_of_equal_length() -> None:
    assert runs_of((4, 6, 6, 4)) == ((0, 1, 4), (1, 3, 6), (3, 4, 4))


@pytest.mark.parametrize("form", ["joint", "separate"])
def test_padded_subjects_need_no_mask_on_an_accelerator(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their lengths; without them, and on the CPU, whose kernel takes one, they are masked."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # the meta device has none
    seen: list[tuple[object, object, bool]] = []
    way = "_joint" if form == "joint" else "separate"

    def watch(*args: object) -> Tensor:
        seen.append((args[7] is not None, args[9], args[0].device.type == "cpu"))  # type: ignore[attr-defined]
        return args[0]  # type: ignore[return-value]

    monkeypatch.setattr(attention, way, watch)
    tensors, gates = random_inputs(torch.float32), gates_of((), torch.float32)
    elsewhere = [tensor.to("meta") for tensor in tensors]
    for inputs, lengths in ((tensors, (9, 4)), (elsewhere, None), (elsewhere, (9, 4))):
        subject_attention(*inputs, *gates, padding(), form=form, lengths=lengths)  # type: ignore[arg-type]
    assert seen == [(True, None, True), (True, None, False), (True, ((0, 1, 9), (1, 2, 4)), False)]


def test_a_kernel_without_masks_gets_padded_subjects_by_their_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is asked for no mask then, except where the backbone's own keys are masked."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # the meta device has none
    asked: list[bool] = []
    monkeypatch.setattr(attention, "kernel_for", lambda *_, masked, **__: asked.append(masked))
    monkeypatch.setattr(attention, "reference", lambda q, *_: q)
    tensors = [tensor.to("meta") for tensor in random_inputs(torch.float32)]
    gates = gates_of((), torch.float32)
    own = torch.ones(2, 21, dtype=torch.bool)
    subject_attention(*tensors, *gates, padding(), lengths=(9, 4))
    subject_attention(*tensors, *gates, padding(), own, lengths=(9, 4))
    subject_attention(*tensors, *gates, padding())
    assert asked == [False, True, True]
