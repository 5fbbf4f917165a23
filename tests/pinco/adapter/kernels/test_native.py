"""Without a GPU: argument order and shapes on the meta device, and every kernel's layout against a stand-in on the CPU.

The stand-ins take and return what the CUDA operations do, as their registration in PyTorch has it, and compute by the
CPU's kernel. That the CUDA operations compute the same is for the check at their first use to find.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pinco.adapter.kernels import native
from pinco.adapter.kernels.base import Case, Kernel
from pinco.adapter.kernels.choice import CPU, CUDNN, EFFICIENT, FLASH, disagreement
from pinco.adapter.kernels.native import LSE_MULTIPLE
from tests.pinco.adapter.attention_inputs import padding, random_inputs

CUDA = (FLASH, CUDNN, EFFICIENT)
PADDED = 64
"""Rows of the efficient kernel's log-sum-exp for 40 queries."""

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _case(**changes: Any) -> Case:
    return Case(**({"device": torch.device("cpu"), "dtype": torch.float32, "head_dim": 8} | changes))


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("kernel", CUDA, ids=lambda kernel: kernel.name)
def test_the_cuda_operations_take_these_arguments(kernel: Kernel, masked: bool) -> None:
    """PyTorch's own registration checks names, order and shapes."""
    q, _, _, ks, vs = (tensor.to("meta") for tensor in random_inputs(torch.bfloat16))
    bias = kernel.bias(padding().to("meta"), q) if masked and kernel.masks else None
    out, lse, state = kernel.forward(q, ks, vs, bias)
    assert out.shape == q.shape and lse.shape == q.shape[:3] and lse.dtype == torch.float32
    gradients = kernel.backward(torch.empty_like(out), q, ks, vs, out, bias, state)
    assert [gradient.shape for gradient in gradients] == [q.shape, ks.shape, vs.shape]


def test_the_layouts_of_the_log_sum_exp_are_those_of_this_pytorch() -> None:
    q, _, _, ks, vs = (tensor.to("meta") for tensor in random_inputs(torch.bfloat16))
    shapes = {kernel.name: tuple(kernel.forward(q, ks, vs, None)[2][0].shape) for kernel in CUDA}
    assert shapes == {"flash": (2, 3, 21), "cudnn": (2, 3, 21, 1), "efficient": (2, 3, LSE_MULTIPLE)}


def _flash(q: Tensor, k: Tensor, v: Tensor) -> tuple[Any, ...]:
    out, lse = _forward(q, k, v)
    return out, lse, None, None, q.shape[2], k.shape[2], q.new_zeros(2), q.new_zeros(()), None


def _flash_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *rest: Any) -> Any:
    starts_q, starts_k, longest_q, longest_k, dropout, causal, _, _ = rest
    assert (starts_q, starts_k, longest_q, longest_k) == (None, None, q.shape[2], k.shape[2])
    assert (dropout, causal) == (0.0, False)
    return _backward(grad, q, k, v, out, lse, 0.0, False)


def _cudnn(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, compute_log_sumexp: bool) -> tuple[Any, ...]:
    assert compute_log_sumexp and all(tensor.is_contiguous() for tensor in (q, k, v))
    assert bias is None or bias.shape == (*q.shape[:3], k.shape[2])
    out, lse = _forward(q, k, v, attn_mask=bias)
    return out, lse[..., None], None, None, q.shape[2], k.shape[2], q.new_zeros(()), q.new_zeros(()), None


def _cudnn_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *rest: Any) -> Any:
    _, _, bias, starts_q, starts_k, longest_q, longest_k, dropout, causal = rest
    assert all(tensor.is_contiguous() for tensor in (grad, q, k, v, out))
    assert lse.shape == (*q.shape[:3], 1)
    assert (starts_q, starts_k, longest_q, longest_k) == (None, None, q.shape[2], k.shape[2])
    assert (dropout, causal) == (0.0, False)
    return _backward(grad, q, k, v, out, lse[..., 0], 0.0, False, attn_mask=bias)


def _efficient(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, compute_log_sumexp: bool) -> tuple[Any, ...]:
    assert compute_log_sumexp
    if bias is not None:
        assert bias.shape == (*q.shape[:3], k.shape[2]) and bias.stride(0) % native.BIAS_MULTIPLE == 0
    out, lse = _forward(q, k, v, attn_mask=bias)
    rows = torch.full((*q.shape[:2], PADDED), float("nan"))
    rows[..., : q.shape[2]] = lse
    return out, rows, q.new_zeros(()), q.new_zeros(())


def _efficient_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, *rest: Any
) -> Any:
    _, _, dropout, wanted = rest
    assert lse.shape[-1] == PADDED and dropout == 0.0 and wanted == [True, True, True, False]
    return *_backward(grad, q, k, v, out, lse[..., : q.shape[2]], 0.0, False, attn_mask=bias), None


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    operations = {
        "flash": (_flash, _flash_backward),
        "cudnn": (_cudnn, _cudnn_backward),
        "efficient": (_efficient, _efficient_backward),
    }
    aten = SimpleNamespace()
    for name, (forward, backward) in operations.items():
        setattr(aten, f"_scaled_dot_product_{name}_attention", forward)
        setattr(aten, f"_scaled_dot_product_{name}_attention_backward", backward)
    monkeypatch.setattr(native, "_aten", aten)


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("differentiable", [False, True], ids=["forward", "and backward"])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("kernel", CUDA, ids=lambda kernel: kernel.name)
def test_each_kernels_layout_is_undone(kernel: Kernel, masked: bool, differentiable: bool) -> None:
    if masked and not kernel.masks:
        assert kernel is FLASH
        return
    assert disagreement(kernel, _case(masked=masked, differentiable=differentiable)) < 1e-5


def test_the_cpus_kernel_agrees_with_the_equation() -> None:
    for masked in (False, True):
        assert disagreement(CPU, _case(masked=masked, differentiable=True)) < 1e-5


def test_what_a_kernel_is_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    gpu = {"device": torch.device("cuda:0")}
    half, single = (_case(**gpu, dtype=dtype, head_dim=64) for dtype in (torch.bfloat16, torch.float32))
    assert [kernel.name for kernel in (CPU, *CUDA) if kernel.suits(half)] == ["flash", "cudnn", "efficient"]
    assert [kernel.name for kernel in (CPU, *CUDA) if kernel.suits(single)] == ["efficient"]
    assert [kernel.name for kernel in (CPU, *CUDA) if kernel.suits(_case())] == ["cpu"]
    for width in (20, 264):
        assert not FLASH.suits(_case(**gpu, dtype=torch.bfloat16, head_dim=width))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert [kernel.name for kernel in (CPU, *CUDA) if kernel.suits(half)] == ["efficient"]
