"""The choice among kernels: the bare layer's own first, none that computes something else, one line in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend
from torch import Tensor
from torch.nn.attention import SDPBackend

from pinco.adapter.attention import subject_attention
from pinco.adapter.equation import reference
from pinco.adapter.kernels import choice
from pinco.adapter.kernels.base import Case, Kernel, State
from pinco.adapter.kernels.choice import CPU, CUDNN, EFFICIENT, FLASH, NAMED, active_backend, choose, kernel_for
from pinco.adapter.kernels.native import CpuFlash
from tests.pinco.adapter.attention_inputs import gates_of, random_inputs

GPU = torch.device("cuda:0")


class Untrusted(CpuFlash):
    """Right, and to be checked."""

    name = "right"
    trusted = False


class OtherLogarithm(Untrusted):
    """Its log-sum-exp is to the base of two."""

    name = "base two"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        out, lse, state = super().forward(q, k, v, bias)
        return out, lse / torch.log(torch.tensor(2.0)), state


class OtherLayout(Untrusted):
    """Its log-sum-exp is `[B, S, H]`."""

    name = "other layout"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        out, lse, state = super().forward(q, k, v, bias)
        return out, lse.transpose(1, 2).reshape(lse.shape), state


class OwnOutput(Untrusted):
    """Its backward pass takes its own output, not the given one."""

    name = "own output"

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, bias: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        return super().backward(grad, q, k, v, self.forward(q, k, v, bias)[0], bias, state)


class NoNumbers(Untrusted):
    """Returns NaN."""

    name = "no numbers"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        out, lse, state = super().forward(q, k, v, bias)
        return out, lse * float("nan"), state


class Broken(Untrusted):
    """Raises."""

    name = "broken"
    error: ClassVar[Exception] = RuntimeError("no engine")

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, State]:
        raise self.error


class WithoutMasks(Untrusted):
    """Takes no mask."""

    name = "without masks"
    masks = False


class ForwardOnly(Untrusted):
    """Has no backward pass."""

    name = "forward only"
    differentiable = False


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Kernels in the place of those that are tried one after another."""

    def use(*kernels: Kernel) -> None:
        monkeypatch.setattr(choice, "AUTOMATIC", kernels)
        monkeypatch.setattr(choice, "KERNELS", {kernel.name: kernel for kernel in kernels})
        monkeypatch.setattr(choice, "_chosen", {})
        monkeypatch.setattr(choice, "_said", set())

    return use


def _case(**changes: Any) -> Case:
    return Case(**({"device": torch.device("cpu"), "dtype": torch.float32, "head_dim": 8} | changes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("wrong", [OtherLogarithm, OtherLayout, OwnOutput, NoNumbers, Broken])
def test_a_kernel_that_computes_something_else_is_left_out(
    wrong: type[Kernel], dtype: torch.dtype, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(wrong(), Untrusted())
    q = random_inputs(dtype)[0]
    for _ in range(3):
        kernel = kernel_for(q, masked=False, differentiable=True)
        assert kernel is not None and kernel.name == "right"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    reason = "failed at its first use (RuntimeError: no engine)" if wrong is Broken else "is off the equation by"
    start = f"on cpu in {dtype} subject-aware attention takes the kernel right: the kernel {wrong.name} {reason}"
    assert record.getMessage().startswith(start)


def test_where_all_fail_the_equation_is_left(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install(OtherLogarithm(), Broken())
    assert kernel_for(random_inputs(torch.float32)[0], masked=False, differentiable=False) is None
    (record,) = caplog.records
    assert "attends twice (slower, and exact): the kernel base two is off" in record.getMessage()
    assert "; the kernel broken failed" in record.getMessage()


def test_a_wrong_backward_pass_does_not_matter_without_gradients(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(OwnOutput(), Untrusted())
    assert choose(_case()) is not None and not caplog.records
    chosen = choose(_case(differentiable=True))
    assert chosen is not None and chosen.name == "right"


def test_a_kernel_gets_only_what_it_takes(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install(WithoutMasks(), ForwardOnly(), Untrusted())

    def name(**changes: Any) -> str | None:
        kernel = choose(_case(**changes))
        return None if kernel is None else kernel.name

    assert name() == name(differentiable=True) == "without masks"
    assert name(masked=True) == "forward only"
    assert name(masked=True, differentiable=True) == "right"
    assert name(head_dim=16) == "without masks"
    assert not caplog.records


def test_each_kernel_is_checked_once(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(Untrusted())
    checked: list[Case] = []
    compute = choice.disagreement
    monkeypatch.setattr(choice, "disagreement", lambda kernel, case: checked.append(case) or compute(kernel, case))
    for dtype in (torch.float32, torch.float32, torch.float64, torch.float32):
        kernel_for(random_inputs(dtype)[0], masked=False, differentiable=False)
    assert [case.dtype for case in checked] == [torch.float32, torch.float64]


def test_the_cpus_kernel_is_not_checked_and_nothing_else_is_taken_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever backend is set, and without a cost at the first use."""
    monkeypatch.setattr(choice, "disagreement", lambda *_: pytest.fail("checked"))
    for backend in ("native", "_native_cudnn", "flash", "sage"):
        assert choose(_case(backend=backend)) is CPU


def test_a_check_leaves_random_numbers_and_modes_alone(install: Install) -> None:
    install(Untrusted())
    torch.manual_seed(3)
    wanted = torch.randn(2)
    torch.manual_seed(3)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert choose(_case(differentiable=True)) is not None
    assert torch.equal(torch.randn(2), wanted)


@pytest.mark.parametrize("differentiable", [False, True], ids=["forward", "and backward"])
def test_the_check_is_no_part_of_a_compiled_graph(
    install: Install, caplog: pytest.LogCaptureFixture, differentiable: bool
) -> None:
    """The compiler comes to a first use too: it takes the checked kernel, and warns as an eager call would."""
    install(OtherLogarithm(), Untrusted())
    torch._dynamo.reset()
    tensors = [tensor.requires_grad_(differentiable) for tensor in random_inputs(torch.float32)]
    gates = gates_of((), torch.float32)
    compiled = torch.compile(subject_attention, backend="aot_eager", fullgraph=True)
    out, wanted = compiled(*tensors, *gates), reference(*(tensor.detach() for tensor in tensors), *gates)
    torch.testing.assert_close(out.detach(), wanted, atol=1e-5, rtol=1e-5)
    (record,) = (record for record in caplog.records if record.name == choice.__name__)
    assert "takes the kernel right: the kernel base two is off" in record.getMessage()
    torch._dynamo.reset()


class Accelerator:
    """A CUDA device as far as the choice sees it: what suits, what PyTorch would take, and what fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own = SDPBackend.FLASH_ATTENTION
        self.failing: set[str] = set()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        monkeypatch.setattr(choice, "_own_choice", lambda case: self.own)
        monkeypatch.setattr(choice, "_failure", lambda one, case: "fails" if one.name in self.failing else None)
        monkeypatch.setattr(choice, "_said", set())

    def choose(self, **changes: Any) -> Kernel | None:
        return choose(_case(**({"device": GPU, "dtype": torch.bfloat16, "head_dim": 64} | changes)))


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Accelerator:
    return Accelerator(monkeypatch)


def test_pytorchs_own_choice_comes_first(accelerator: Accelerator, caplog: pytest.LogCaptureFixture) -> None:
    for own, kernel in choice.OWN_CHOICE.items():
        accelerator.own = own
        assert accelerator.choose() is kernel
    accelerator.own = SDPBackend.MATH
    assert accelerator.choose() is FLASH
    accelerator.own = SDPBackend.FLASH_ATTENTION  # which takes no mask
    assert accelerator.choose(masked=True) is CUDNN
    assert accelerator.choose(dtype=torch.float32) is EFFICIENT
    assert not caplog.records


def test_diffusers_backend_comes_first(accelerator: Accelerator, caplog: pytest.LogCaptureFixture) -> None:
    for name, kernel in NAMED.items():
        assert accelerator.choose(backend=name) is kernel
    assert not caplog.records
    assert accelerator.choose(backend="_flash_3", differentiable=True) is FLASH
    assert accelerator.choose(backend="sage") is FLASH
    assert [record.getMessage() for record in caplog.records] == [
        f"on cuda:0 in torch.bfloat16 subject-aware attention takes the kernel flash: the backend {name} has no kernel "
        "for this that returns a log-sum-exp"
        for name in ("_flash_3", "sage")
    ]


def test_what_fails_is_followed_by_the_next(accelerator: Accelerator, caplog: pytest.LogCaptureFixture) -> None:
    accelerator.failing = {"flash-attn 2", "flash"}
    assert accelerator.choose(backend="flash") is CUDNN
    accelerator.failing |= {"cudnn", "efficient"}
    assert accelerator.choose(backend="flash") is None
    accelerator.choose(backend="flash", masked=True)
    assert len(caplog.records) == 3


def test_the_backend_is_the_processors_own_or_the_active_one() -> None:
    assert active_backend(object()) == "native"
    assert active_backend(SimpleNamespace(_attention_backend=None)) == "native"
    assert active_backend(SimpleNamespace(_attention_backend=AttentionBackendName._NATIVE_CUDNN)) == "_native_cudnn"
    with attention_backend("_native_math"):
        assert active_backend(SimpleNamespace(_attention_backend=None)) == "_native_math"
        assert active_backend(SimpleNamespace(_attention_backend="flash")) == "flash"
        assert active_backend(object()) == "native"  # it calls PyTorch's attention whatever is set


def test_names_are_unique() -> None:
    kernels = {id(kernel) for kernel in (*choice.AUTOMATIC, *NAMED.values())}
    assert len(choice.KERNELS) == len(kernels)
