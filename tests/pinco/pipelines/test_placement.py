"""Ways to compute, on tiny random pipelines of all families. What moves to a CUDA device is not shown here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from torch import nn

from pinco.adapter import PincoAdapter
from pinco.pipelines import placement
from pinco.pipelines.encoded import EncodedCanvas
from pinco.pipelines.execution import Execution, ExecutionError
from pinco.pipelines.pipeline import PincoPipeline
from pinco.pipelines.placement import TextStage, put, quantisation, tiling
from preprocessing.arrays import U8
from preprocessing.canvas import Canvas

MakeCanvas = Callable[..., Canvas]
REAL = ["flux", "flux2-klein", "sd3", "hunyuan", "z-image"]


@pytest.fixture(params=REAL)
def pipe(request: pytest.FixtureRequest, new_pipe: Callable[[str], Any]) -> Any:
    """Every real pipeline in turn, with parts of its own: hooks stay on them."""
    return _own(new_pipe(request.param))


def _own(pipe: Any) -> Any:
    return type(pipe)(**{name: copy.deepcopy(part) for name, part in pipe.components.items()})


def _images(pinco: PincoPipeline, canvas: Canvas, prompts: tuple[str, ...] = ("in snow",), **knobs: Any) -> list[U8]:
    knobs = {"steps": 3, "true_cfg": 2.0} | knobs
    requests = [pinco.defaults.request(prompt, seed=seed, **knobs) for seed, prompt in enumerate(prompts)]
    return pinco.generate(pinco.encode_canvas(canvas), requests)


@pytest.mark.parametrize("name", ["offload_model", "offload_sequential", "offload_text"])
def test_where_weights_wait_changes_no_pixel(
    pipe: Any, adapter: PincoAdapter, make_canvas: MakeCanvas, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diffusers' own offloads, with the CPU as the device; sequential offload leaves no weight in its module."""
    offload = accelerate.cpu_offload
    # diffusers would say cpu:0, with which accelerate copies every weight out of its nn.Parameter.
    monkeypatch.setattr(accelerate, "cpu_offload", lambda part, _, **options: offload(part, "cpu", **options))
    resident = PincoPipeline(pipe, adapter)
    if name == "offload_sequential" and not resident.family.single_layers:
        name = "offload_model"
    (wanted,) = _images(resident, make_canvas())
    adapter.detach()
    stage = put(pipe, name, "cpu", swap=True)
    (image,) = _images(PincoPipeline(pipe, adapter, text_stage=stage), make_canvas())
    np.testing.assert_array_equal(image, wanted)
    assert (next(pipe.transformer.parameters()).device.type == "meta") == (name == "offload_sequential")


class Encoder(nn.Module):
    """Writes down when it is moved and when it is called."""

    def __init__(self, name: str, diary: list[str]) -> None:
        super().__init__()
        self.name, self.diary = name, diary
        self.weight = nn.Parameter(torch.ones(1))

    def to(self, place: Any) -> Any:  # type: ignore[override]
        self.diary.append(f"{self.name} to {torch.device(place).type}")
        return self

    def forward(self) -> None:
        self.diary.append(f"{self.name} works")


class Parts:
    def __init__(self, diary: list[str]) -> None:
        names = ("transformer", "vae", "text_encoder", "text_encoder_2")
        self.components: dict[str, Any] = {name: Encoder(name, diary) for name in names} | {"tokenizer": None}


@pytest.mark.parametrize("swap", [False, True])
def test_text_encoders_have_the_device_together_and_leave_it_together(swap: bool) -> None:
    diary: list[str] = []
    parts = Parts(diary)
    stage = TextStage(parts, "cuda", swap=swap)
    assert ("vae to cuda" in diary, "transformer to cuda" in diary) == (True, not swap)
    assert not any("text_encoder" in entry and "cuda" in entry for entry in diary)
    diary.clear()
    with stage:
        parts.components["text_encoder"]()
        parts.components["text_encoder_2"]()
    expected = ["text_encoder to cuda", "text_encoder works", "text_encoder_2 to cuda", "text_encoder_2 works"]
    assert diary == ["transformer to cpu"] * swap + expected + ["text_encoder to cpu", "text_encoder_2 to cpu"]
    diary.clear()
    parts.components["transformer"]()
    assert diary == ["transformer to cuda"] * swap + ["transformer works"]


class Counting:
    """A text stage that counts its visits."""

    def __init__(self) -> None:
        self.visits = 0

    def __enter__(self) -> None:
        self.visits += 1

    def __exit__(self, *_: object) -> None:
        pass


def test_the_prompts_of_a_run_are_encoded_in_one_visit(new_pipe: Callable[[str], Any], make_canvas: MakeCanvas) -> None:
    stage: Any = Counting()
    pinco = PincoPipeline(new_pipe("flux"), text_stage=stage)
    canvas = pinco.encode_canvas(make_canvas())
    run = ["in snow", "on grass", "on sand", ""]
    for prompt in run[:3]:
        request = pinco.defaults.request(prompt, seed=1, steps=1, true_cfg=2.0)
        pinco.generate(canvas, [request], ahead=run)
    assert stage.visits == 1 and all(prompt in pinco.prompts for prompt in run)


def test_prompts_beyond_what_is_kept_are_encoded_when_they_are_due(
    new_pipe: Callable[[str], Any], make_canvas: MakeCanvas
) -> None:
    stage: Any = Counting()
    pipe = new_pipe("flux")
    plain = PincoPipeline(pipe)
    prompts = ("in snow", "on grass", "on sand")
    wanted = _images(plain, make_canvas(), prompts, true_cfg=1.0)
    pinco = PincoPipeline(pipe, text_stage=stage, prompt_bytes=1)  # not even one is kept
    for image, other in zip(_images(pinco, make_canvas(), prompts, true_cfg=1.0), wanted, strict=True):
        np.testing.assert_array_equal(image, other)
    assert stage.visits == 4, "one for the batch, which keeps nothing, and one for each"


FIRST_BLOCK = Execution(cache="first_block")


@pytest.fixture
def cacheable(new_pipe: Callable[[str], Any]) -> Any:
    return _own(new_pipe("flux"))


def test_a_cache_skips_blocks_of_steps_that_change_little(
    cacheable: Any, make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _count_last_block(cacheable)
    (plain,) = _images(PincoPipeline(cacheable), make_canvas(), steps=4, true_cfg=1.0)
    assert len(calls) == 4
    calls.clear()
    monkeypatch.setattr(placement, "FIRST_BLOCK_THRESHOLD", 10.0)
    pinco = PincoPipeline(cacheable, execution=FIRST_BLOCK)
    (cached,) = _images(pinco, make_canvas(), steps=4, true_cfg=1.0)
    assert len(calls) == 1, "the first step computes everything, the others their first block"
    assert cached.shape == plain.shape and not np.array_equal(cached, plain)
    (again,) = _images(pinco, make_canvas(), steps=4, true_cfg=1.0)
    np.testing.assert_array_equal(again, cached)  # nothing is left of the last image


def _count_last_block(pipe: Any) -> list[int]:
    calls: list[int] = []
    block = pipe.transformer.single_transformer_blocks[-1]
    forward = block.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return forward(*args, **kwargs)

    block.forward = counted
    return calls


def test_a_failed_batch_leaves_nothing_in_the_cache(
    cacheable: Any, make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "FIRST_BLOCK_THRESHOLD", 10.0)
    pinco = PincoPipeline(cacheable, execution=FIRST_BLOCK, one_at_a_time=False)
    (wanted,) = _images(pinco, make_canvas())
    step = cacheable.scheduler.step

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    cacheable.scheduler.step = fail
    with pytest.raises(torch.OutOfMemoryError):
        _images(pinco, make_canvas(), ("in snow", "on grass"))
    cacheable.scheduler.step = step
    np.testing.assert_array_equal(_images(pinco, make_canvas())[0], wanted)


def test_compiled_blocks_make_the_same_image(
    pipe: Any, adapter: PincoAdapter, make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Dynamo alone, whose graphs run the same operators."""
    plain = PincoPipeline(pipe, adapter)
    if not plain.family.repeated_blocks:
        return
    (wanted,) = _images(plain, make_canvas())
    graphs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(1)
        return graph.forward

    monkeypatch.setitem(placement.COMPILE_OPTIONS, "backend", backend)
    (image,) = _images(PincoPipeline(pipe, adapter, execution=Execution(compile=True)), make_canvas())
    assert graphs
    assert np.abs(image.astype(int) - wanted).max() <= 2
    torch.compiler.reset()


def test_tiles_are_for_one_call(new_pipe: Callable[[str], Any], make_canvas: MakeCanvas) -> None:
    vae = new_pipe("flux").vae
    with tiling(vae, True):
        assert vae.use_tiling and vae.use_slicing
    assert not vae.use_tiling
    with tiling(vae, False):
        assert not vae.use_tiling


def test_a_vae_in_tiles_makes_nearly_the_same_image(new_pipe: Callable[[str], Any], make_canvas: MakeCanvas) -> None:
    pipe = _own(new_pipe("flux"))
    canvas = make_canvas(96, 64)
    pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = 64, 8

    def encoded(execution: Execution) -> tuple[EncodedCanvas, U8]:
        pinco = PincoPipeline(pipe, execution=execution)
        return pinco.encode_canvas(canvas), _images(pinco, canvas)[0]

    (whole, one), (tiled, other) = encoded(Execution(vae_tiling="off")), encoded(Execution(vae_tiling="on"))
    assert one.shape == other.shape and not np.array_equal(one, other)
    assert not torch.equal(whole.clean, tiled.clean)
    assert np.abs(one.astype(int) - other).mean() < 32


def test_numbers_that_the_device_does_not_have_are_refused() -> None:
    with pytest.raises(ExecutionError, match=r"fp8 needs a CUDA device of compute capability 8\.9 .* int8 or none"):
        quantisation("fp8", "cpu")
    assert quantisation("none", "cpu") == {}


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0)])
def test_fp8_is_for_devices_that_compute_with_it(capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    if capability < (8, 9):
        with pytest.raises(ExecutionError, match="fp8"):
            quantisation("fp8", "cuda")
    else:
        assert "quantization_config" in quantisation("fp8", "cuda")


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ExecutionError, match=r"model\.quantise: int8 needs the package torchao"):
        quantisation("int8", "cpu")


def test_free_memory_of_the_cpu_is_main_memory() -> None:
    assert placement.free_memory("cpu") > 1 << 20
