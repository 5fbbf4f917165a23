"""Ways to compute, on tiny random pipelines of all families. What moves to a CUDA device is not shown here."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from torch import nn

from pinco.adapter import PincoAdapter
from pinco.pipelines import dual_block_cache, placement
from pinco.pipelines.encoded import EncodedCanvas
from pinco.pipelines.execution import Execution, ExecutionError
from pinco.pipelines.pipeline import PincoPipeline
from pinco.pipelines.placement import TextStage, put, quantisation, tiling
from preprocessing.arrays import U8
from preprocessing.canvas import Canvas
from tests.pinco.pipelines.odd_pipeline import open_adapter

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


CASES = [
    *(("flux", "first_block"), ("flux", "taylor"), ("flux2-klein", "taylor"), ("sd3", "taylor")),
    *((name, "dbcache") for name in ("flux-deeper", *REAL[1:])),
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def cached(
    request: pytest.FixtureRequest, new_pipe: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Execution]:
    """A pipeline and one of its caches, which takes over whatever it can."""
    monkeypatch.setattr(placement, "FIRST_BLOCK_THRESHOLD", 10.0)
    monkeypatch.setattr(dual_block_cache, "THRESHOLD", 10.0)
    name, cache = request.param
    return _own(new_pipe(name)), Execution(cache=cache)


def test_a_cache_computes_less_and_leaves_nothing_for_the_next_image(
    cached: tuple[Any, Execution], make_canvas: MakeCanvas
) -> None:
    pipe, execution = cached
    calls = _count_attentions(pipe.transformer)
    adapter = open_adapter(pipe)
    (plain,) = _images(PincoPipeline(pipe, adapter), make_canvas(), steps=6, true_cfg=1.0)
    every = len(calls)
    calls.clear()
    assert execution.cache in PincoPipeline(pipe, adapter).family.caches
    pinco = PincoPipeline(pipe, adapter, execution=execution)
    (image,) = _images(pinco, make_canvas(), steps=6, true_cfg=1.0)
    assert 0 < len(calls) < every
    assert image.shape == plain.shape and not np.array_equal(image, plain)
    _images(pinco, make_canvas(left=8), ("on grass",), steps=6, true_cfg=1.0)
    (again,) = _images(pinco, make_canvas(), steps=6, true_cfg=1.0)
    np.testing.assert_array_equal(again, image)


def _count_attentions(transformer: Any) -> list[str]:
    calls: list[str] = []
    for name, module in transformer.named_modules():
        if name.rpartition(".")[-1] in ("attn", "attn1", "attention"):
            _count(module, name, calls)
    return calls


def _count(module: Any, name: str, calls: list[str]) -> None:
    forward = module.forward

    @functools.wraps(forward)
    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return forward(*args, **kwargs)

    module.forward = counted


def test_a_failed_batch_leaves_nothing_in_the_cache(
    cached: tuple[Any, Execution], make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, execution = cached
    pinco = PincoPipeline(pipe, execution=execution, one_at_a_time=False)
    (wanted,) = _images(pinco, make_canvas(), steps=6)
    step, count = pipe.scheduler.step, iter(range(100))

    def fail(*args: Any, **kwargs: Any) -> Any:
        if next(count) == 2:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return step(*args, **kwargs)

    pipe.scheduler.step = fail
    with pytest.raises(torch.OutOfMemoryError):
        _images(pinco, make_canvas(), ("in snow", "on grass"), steps=6)
    pipe.scheduler.step = step
    np.testing.assert_array_equal(_images(pinco, make_canvas(), steps=6)[0], wanted)


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


def test_a_process_takes_its_share_of_a_gpu_and_no_more_than_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (60, 80))
    assert [placement.free_memory("cuda", share) for share in (1.0, 0.5)] == [60, 40]
