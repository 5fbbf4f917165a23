"""diffusers' operations for flash attention 2 and 3, with stand-ins for the packages that compute on the CPU.

The stand-ins take and return what the packages do, in the layout `[B, S, H, D]` with log-sum-exps `[B, H, S]`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models import attention_dispatch as dispatch
from diffusers.models.attention_dispatch import _HUB_KERNELS_REGISTRY, AttentionBackendName
from torch import Tensor

from pinco.adapter.kernels.base import Case, Kernel
from pinco.adapter.kernels.choice import NAMED, disagreement

CASE = Case(torch.device("cpu"), torch.float32, 8, differentiable=True)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*(x.transpose(1, 2) for x in (q, k, v)))
    return out.transpose(1, 2), lse


def _attend_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *into: Tensor) -> None:
    tensors = (x.transpose(1, 2) for x in (grad, q, k, v, out))
    made = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(*tensors, lse, 0.0, False)
    for gradient, target in zip(made, into, strict=True):
        target.copy_(gradient.transpose(1, 2))


def _flash2(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, None, Tensor]:
    assert rest == (0.0, q.shape[-1] ** -0.5, False, -1, -1, 0.0, None, False)
    return *_attend(q, k, v), None, torch.tensor([7])


def _flash2_backward(*args: Any) -> None:
    *tensors, dropout, scale, causal, left, right, softcap, slopes, deterministic, random_state = args
    assert (dropout, causal, left, right, softcap, slopes, deterministic) == (0.0, False, -1, -1, 0.0, None, False)
    assert scale == tensors[1].shape[-1] ** -0.5 and random_state.tolist() == [7]
    _attend_backward(*tensors)


def _flash3(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, Tensor]:
    assert rest[-1] == q.shape[-1] ** -0.5 and options["causal"] is False
    return _attend(q, k, v)


def _flash3_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *rest: Any) -> None:
    _attend_backward(grad, q, k, v, out, lse, *rest[6:9])


def _flash3_package(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """diffusers' wrap of it returns the log-sum-exp as `[B, S, H]`."""
    out, lse = _attend(q, k, v)
    return out, lse.transpose(1, 2)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_wrapped_flash_attn_forward", _flash2)
    monkeypatch.setattr(dispatch, "_wrapped_flash_attn_backward", _flash2_backward)
    monkeypatch.setattr(dispatch, "_wrapped_flash_attn_3", _flash3_package)
    for name, forward, backward in (
        (AttentionBackendName.FLASH_HUB, _flash2, _flash2_backward),
        (AttentionBackendName._FLASH_3_HUB, _flash3, _flash3_backward),
    ):
        monkeypatch.setattr(_HUB_KERNELS_REGISTRY[name], "wrapped_forward_fn", forward)
        monkeypatch.setattr(_HUB_KERNELS_REGISTRY[name], "wrapped_backward_fn", backward)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("backend", ["flash", "flash_hub", "_flash_3_hub"])
def test_forward_and_backward_agree_with_the_equation(backend: str) -> None:
    assert disagreement(NAMED[backend], CASE) < 1e-5


@pytest.mark.usefixtures("packages")
def test_flash_3_without_a_backward_pass_agrees_forward() -> None:
    kernel: Kernel = NAMED["_flash_3"]
    assert not kernel.differentiable
    assert disagreement(kernel, Case(torch.device("cpu"), torch.float32, 8)) < 1e-5
    with pytest.raises(NotImplementedError, match="without its backward pass"):
        disagreement(kernel, CASE)


def test_what_the_packages_are_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {name: NAMED[name] for name in ("flash", "flash_hub", "_flash_3", "_flash_3_hub")}
    case = Case(torch.device("cuda:0"), torch.bfloat16, 64)
    for capability, wanted in (((9, 0), list(packages)), ((8, 0), ["flash", "flash_hub"]), ((7, 5), [])):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, is_=capability: is_)
        assert [name for name, kernel in packages.items() if kernel.suits(case)] == wanted
    assert not any(kernel.suits(CASE) for kernel in packages.values())
