"""DBCache under an attached adapter, on tiny random backbones of all families.

That images do not depend on each other, and that a failed batch leaves nothing, is shown in `test_placement`.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pinco.pipelines import dual_block_cache as module
from pinco.pipelines import placement
from pinco.pipelines.dual_block_cache import _alike, check_package, dual_block_cache
from pinco.pipelines.execution import Execution, ExecutionError
from pinco.pipelines.families import pipeline_family
from pinco.pipelines.methods.choice import MethodError
from pinco.pipelines.pipeline import PincoPipeline
from pinco.pipelines.placement import put
from preprocessing.arrays import U8
from preprocessing.canvas import Canvas
from tests.families import flux2, inpainting
from tests.pinco.adapter.families.flux2_suite import Flux2Suite
from tests.pinco.adapter.families.flux_suite import FluxSuite
from tests.pinco.adapter.families.hunyuan_suite import HunyuanSuite
from tests.pinco.adapter.families.sd3_suite import SD3Suite
from tests.pinco.adapter.families.z_image_suite import ZImageSuite
from tests.pinco.adapter.suite import SMALL, AdapterSuite, CachedSteps, watch_keys
from tests.pinco.pipelines.odd_pipeline import open_adapter

MakeCanvas = Callable[..., Canvas]
CACHED = Execution(cache="dbcache")
STEPS = 6
PIPELINES = ["flux-deeper", "flux2-klein", "sd3", "hunyuan", "z-image"]


class DualSD3Suite(SD3Suite):
    """With second attentions."""

    layout = "sd3.5-medium"


SUITES: dict[type[AdapterSuite], str] = {
    FluxSuite: "FluxPipeline",
    Flux2Suite: "Flux2Pipeline",
    DualSD3Suite: "StableDiffusion3Pipeline",
    HunyuanSuite: "HunyuanDiTPipeline",
    ZImageSuite: "ZImagePipeline",
}


@pytest.fixture(autouse=True)
def _takes_over_whatever_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "THRESHOLD", 10.0)


def _cache(backbone: Any, pipeline: str, **options: Any) -> Any:
    family = pipeline_family(pipeline)
    return dual_block_cache(backbone, family.block_lists, steps=STEPS, has_skips=family.block_skips, **options)


@pytest.mark.parametrize(("kind", "pipeline"), SUITES.items(), ids=lambda value: getattr(value, "__name__", ""))
@torch.no_grad()
def test_every_layer_that_runs_sees_its_own_keys(
    kind: type[AdapterSuite], pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = CachedSteps(kind(), monkeypatch)
    with _cache(steps.backbone, pipeline):
        assert torch.equal(steps.step(), steps.wanted)
        for _ in range(STEPS - 1):
            steps.step()
    layers = steps.layers
    every = set(steps.adapter.settings.layers)
    assert layers[0] == layers[1] == every, "a quarter of the steps, rounded up, is warm-up"
    assert layers[2] < layers[0]


@pytest.mark.parametrize(("kind", "pipeline"), SUITES.items(), ids=lambda value: getattr(value, "__name__", ""))
@torch.no_grad()
def test_a_cached_step_sees_the_subject_of_its_own_call(
    kind: type[AdapterSuite], pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = kind()
    backbone = suite.new_backbone()
    adapter = suite.new_adapter(backbone).attach(backbone)
    inputs, (latents, maps) = suite.new_inputs(backbone, 2, SMALL), suite.new_subject_inputs(backbone)
    one, other = (adapter.encode(part, maps, cache=True) for part in (latents, -latents))
    seen = watch_keys(monkeypatch)
    suite.run(backbone, inputs, adapter, other)
    wanted = dict(seen)
    with _cache(backbone, pipeline):
        for _ in range(2):
            suite.run(backbone, inputs, adapter, one)
        seen.clear()
        suite.run(backbone, inputs, adapter, other)
    assert 0 < len(seen) < len(wanted)
    assert all(torch.equal(keys, wanted[number]) for number, keys in seen.items())


@pytest.mark.parametrize(("kind", "pipeline"), SUITES.items(), ids=lambda value: getattr(value, "__name__", ""))
@torch.no_grad()
def test_it_comes_off_and_leaves_the_transformer_as_it_was(kind: type[AdapterSuite], pipeline: str) -> None:
    suite = kind()
    backbone = suite.new_backbone()
    inputs = suite.new_inputs(backbone, 2, SMALL)
    wanted = suite.call(backbone, inputs)
    names, attributes = [name for name, _ in backbone.named_modules()], _attributes(backbone)
    with pytest.raises(KeyError, match="failed"), _cache(backbone, pipeline):
        for _ in range(STEPS):
            suite.call(backbone, inputs)
        raise KeyError("failed")
    assert [name for name, _ in backbone.named_modules()] == names
    assert _attributes(backbone) == attributes
    assert torch.equal(suite.call(backbone, inputs), wanted)
    adapter = suite.new_adapter(backbone).attach(backbone)
    assert adapter.settings.layers  # an adapter counts the layers anew when it is attached
    adapter.detach()


def _attributes(backbone: Any) -> dict[str, set[str]]:
    return {name: set(vars(part)) for name, part in backbone.named_modules()}


def _own(pipe: Any) -> Any:
    return type(pipe)(**{name: copy.deepcopy(part) for name, part in pipe.components.items()})


def _image(pinco: PincoPipeline, canvas: Canvas, **changes: Any) -> U8:
    request = pinco.defaults.request("in snow", seed=1, **({"steps": STEPS, "true_cfg": 2.0} | changes))
    return pinco.generate(pinco.encode_canvas(canvas), [request])[0]


@pytest.mark.parametrize("name", PIPELINES[:2])
def test_a_negative_prompt_with_a_pass_of_its_own_has_a_cache_of_its_own(
    name: str, new_pipe: Callable[[str], Any], make_canvas: MakeCanvas
) -> None:
    """Guided away from the prompt itself, an image is what it is without guidance."""
    pipe = _own(new_pipe(name))
    if "is_distilled" in pipe.config:
        pipe.register_to_config(is_distilled=False)
    pinco = PincoPipeline(pipe, open_adapter(pipe), execution=CACHED)
    calls: list[int] = []
    pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    alone = _image(pinco, make_canvas(), true_cfg=1.0)
    assert len(calls) == STEPS
    guided = _image(pinco, make_canvas(), true_cfg=2.0, negative="in snow")
    assert len(calls) == 3 * STEPS
    np.testing.assert_array_equal(guided, alone)


@pytest.mark.parametrize("where", ["offload_model", "offload_sequential"])
@pytest.mark.parametrize("name", PIPELINES)
def test_weights_that_wait_elsewhere_change_no_pixel(
    name: str, where: Any, new_pipe: Callable[[str], Any], make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    offload = accelerate.cpu_offload
    # diffusers would say cpu:0, with which accelerate copies every weight out of its nn.Parameter.
    monkeypatch.setattr(accelerate, "cpu_offload", lambda part, _, **options: offload(part, "cpu", **options))
    pipe = _own(new_pipe(name))
    resident = PincoPipeline(pipe, execution=CACHED)
    wanted = _image(resident, make_canvas())
    put(pipe, where if resident.family.single_layers else "offload_model", "cpu")
    pinco = PincoPipeline(pipe, execution=CACHED)
    np.testing.assert_array_equal(_image(pinco, make_canvas()), wanted)
    assert hasattr(pipe.transformer, "_hf_hook")
    np.testing.assert_array_equal(_image(pinco, make_canvas()), wanted)


@pytest.mark.parametrize("name", PIPELINES)
def test_blocks_compiled_once_serve_all_calls(
    name: str, new_pipe: Callable[[str], Any], make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = _own(new_pipe(name))
    wanted = _image(PincoPipeline(pipe, execution=CACHED), make_canvas())
    graphs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(1)
        return graph.forward

    monkeypatch.setitem(placement.COMPILE_OPTIONS, "backend", backend)
    pinco = PincoPipeline(pipe, execution=Execution(cache="dbcache", compile=True))
    first = _image(pinco, make_canvas())
    made = len(graphs)
    assert made and np.abs(first.astype(int) - wanted).max() <= 2
    np.testing.assert_array_equal(_image(pinco, make_canvas()), first)
    assert len(graphs) == made
    torch.compiler.reset()


def test_what_it_takes_over_is_decided_by_the_threshold(
    new_pipe: Callable[[str], Any], make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 0 nothing is taken over, and the image is the plain one, bit by bit."""
    pipe = _own(new_pipe("hunyuan"))
    plain = _image(PincoPipeline(pipe), make_canvas())
    cached = PincoPipeline(pipe, execution=CACHED)
    assert not np.array_equal(_image(cached, make_canvas()), plain)
    monkeypatch.setattr(module, "THRESHOLD", 0.0)
    np.testing.assert_array_equal(_image(cached, make_canvas()), plain)


@pytest.mark.parametrize("new", [partial(inpainting.new_fill, num_layers=2, num_single_layers=2), flux2.new_klein])
def test_an_inpainting_pipeline_is_cached_too(new: Callable[[], Any], make_canvas: MakeCanvas) -> None:
    pipe = new()
    images = []
    for execution in (Execution(), CACHED):
        pinco = PincoPipeline(pipe, execution=execution)
        request = pinco.defaults.request("in snow", seed=1, steps=STEPS)
        images.append(pinco.generate(pinco.encode_canvas(make_canvas(), "fill"), [request])[0])
    assert images[0].shape == images[1].shape and not np.array_equal(*images)


def test_a_controlnet_is_refused(new_pipe: Callable[[str], Any], make_canvas: MakeCanvas) -> None:
    pinco = PincoPipeline(new_pipe("flux"), controlnet=torch.nn.Identity(), execution=CACHED)
    with pytest.raises(MethodError, match=r"controlnet is not possible with model\.cache: dbcache.*to none"):
        pinco.encode_canvas(make_canvas(), "controlnet")


def test_a_missing_package_is_said(new_pipe: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check_package()
    find = importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "cache_dit" else find(name))
    with pytest.raises(ExecutionError, match=r"needs the package cache-dit: .*pip install 'pinco\[cache\]'"):
        PincoPipeline(new_pipe("sd3"), execution=CACHED)
    PincoPipeline(new_pipe("sd3"), execution=Execution(cache="taylor"))


def test_the_package_says_nothing_but_errors() -> None:
    """It has a handler of its own, which writes to standard output."""
    with _cache(FluxSuite().new_backbone(), "FluxPipeline"):
        log = logging.getLogger("cache_dit.caching.cache_interface")
    assert log.handlers and not log.isEnabledFor(logging.WARNING)


class Half(nn.Module):
    """A block that halves what it is given, together with its skip connection."""

    def forward(self, hidden_states: Tensor, skip: Tensor | None = None) -> Tensor:
        return (hidden_states if skip is None else hidden_states + skip) / 2


def test_a_step_that_leaves_blocks_out_keeps_nothing_of_its_skip_connections() -> None:
    blocks = _alike([Half() for _ in range(8)])
    start = torch.ones(1)

    def run(count: int) -> Tensor:
        hidden = start
        for block in blocks[:count]:
            hidden = block(hidden)
        return hidden

    whole = run(8)
    assert not blocks[0].skips
    for _ in range(5):
        run(4)
        assert len(blocks[0].skips) == 3
    assert torch.equal(run(8), whole)
