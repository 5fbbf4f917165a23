"""A decode apart from the sampling: the bytes of diffusers' own, one thread at the VAE, and where weights move."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload

from pinco.pipelines.execution import Execution
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families import flux2
from tests.pinco.pipelines.diffusers_decode import decode_in_the_call
from tests.pinco.pipelines.odd_pipeline import open_adapter

MakeCanvas = Callable[..., Canvas]


def _requests(pinco: PincoPipeline, **knobs: Any) -> list[Any]:
    settings = {"steps": 4, "true_cfg": 2.0} | knobs
    return [pinco.defaults.request(prompt, seed=3, **settings) for prompt in ("a ball on grass", "in snow")]


KINDS = pytest.mark.parametrize(
    ("method", "dtype", "one_at_a_time"),
    [(method, dtype, alone) for method in ("pinco", "blend")
     for dtype in (torch.float32, torch.bfloat16) for alone in (True, False)],
)  # fmt: skip


@KINDS
def test_images_are_those_of_the_decode_in_diffusers(
    pipe: Any, make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch,
    method: str, dtype: torch.dtype, one_at_a_time: bool,
) -> None:  # fmt: skip
    """To the last bit; of the method blend the first pass too, whose image the product is encoded on."""
    _assert_equal_to_diffusers(pipe, make_canvas(64, 48), monkeypatch, method, dtype, one_at_a_time)


@KINDS
def test_so_are_those_of_flux_2_dev(
    make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch, method: str, dtype: torch.dtype, one_at_a_time: bool
) -> None:
    """Its pipeline returns other latents than that of klein."""
    _assert_equal_to_diffusers(flux2.new_dev(), make_canvas(64, 48), monkeypatch, method, dtype, one_at_a_time)


def _assert_equal_to_diffusers(
    shared: Any, canvas: Canvas, patch: pytest.MonkeyPatch, method: str, dtype: torch.dtype, one_at_a_time: bool
) -> None:
    own = {name: copy.deepcopy(part).to(dtype) for name, part in shared.components.items()
           if isinstance(part, torch.nn.Module)}  # fmt: skip
    pipe = type(shared)(**(shared.components | own))
    pinco = PincoPipeline(pipe, open_adapter(pipe).to(dtype), one_at_a_time=one_at_a_time)
    encoded = pinco.encode_canvas(canvas, method)
    made = pinco.generate(encoded, _requests(pinco))
    decoded = decode_in_the_call(pinco, pipe, patch)
    wanted = pinco.generate(encoded, _requests(pinco))
    assert sum(decoded) == {"pinco": 2, "blend": 4}[method]
    assert made[0].std() > 0 and all(np.array_equal(one, other) for one, other in zip(made, wanted, strict=True))


def test_images_come_in_the_order_of_their_requests(new_pipe: Callable[[str], Any], make_canvas: MakeCanvas) -> None:
    """Also where requests that lie apart are one batch."""
    pinco = PincoPipeline(new_pipe("flux"), one_at_a_time=False)
    encoded = pinco.encode_canvas(make_canvas())
    first, second = _requests(pinco)
    other = replace(first, steps=1)
    latents = pinco.sample(encoded, [first, other, second])
    assert [list(numbers) for numbers, _ in latents.batches] == [[0, 2], [1]]
    alone = [pinco.generate(encoded, [request])[0].astype(int) for request in (first, other, second)]
    for image, wanted in zip(pinco.decode(latents), alone, strict=True):
        assert np.abs(image.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("method", ["bare", "blend"])
def test_one_thread_at_a_time_uses_the_vae_and_its_tiles(
    new_pipe: Callable[[str], Any], make_canvas: MakeCanvas, method: str
) -> None:
    pipe = new_pipe("flux")
    pinco = PincoPipeline(pipe, execution=Execution(vae_tiling="auto"))
    pinco.decoder._execution = SimpleNamespace(tiles=lambda size: size[0] > 64)  # type: ignore[assignment]
    small, large = (pinco.encode_canvas(make_canvas(width, 48), method) for width in (64, 96))
    latents = pinco.sample(small, _requests(pinco, steps=1))
    wanted = pinco.decode(latents)
    inside, seen = threading.Semaphore(), set()

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watch(given: torch.Tensor, **options: Any) -> Any:
            assert inside.acquire(blocking=False), "two threads at once"
            time.sleep(0.01)
            made = call(given, **options)
            seen.add((name, given.shape[-1] > 64 // (1 if name == "encode" else 8), pipe.vae.use_tiling))
            inside.release()
            return made

        return watch

    pipe.vae.decode, pipe.vae.encode = watched("decode", pipe.vae.decode), watched("encode", pipe.vae.encode)
    try:
        with ThreadPoolExecutor(2) as pool:
            decodes = pool.submit(lambda: [pinco.decode(latents) for _ in range(8)])
            pool.submit(
                lambda: [
                    (pinco.encode_canvas(make_canvas(96, 48), method), pinco.sample(large, _requests(pinco, steps=1)))
                    for _ in range(3)
                ]
            ).result(60)
            assert all(np.array_equal(*pair) for made in decodes.result(60) for pair in zip(made, wanted, strict=True))
    finally:
        del pipe.vae.decode, pipe.vae.encode
    assert {"encode", "decode"} == {name for name, _, _ in seen}
    assert all(large == tiled for _, large, tiled in seen), "tiles of the other thread"


@pytest.mark.parametrize("kind", ["by model", "layer by layer"])
def test_where_weights_move_sampling_decodes_and_the_other_thread_touches_nothing(
    new_pipe: Callable[[str], Any], make_canvas: MakeCanvas, kind: str
) -> None:
    made = new_pipe("sd3")
    pipe = type(made)(**(made.components | {"vae": copy.deepcopy(made.vae)}))
    pinco = PincoPipeline(pipe)
    assert not pinco.decoder.movable
    encoded = pinco.encode_canvas(make_canvas())
    wanted = pinco.generate(encoded, _requests(pinco))
    if kind == "by model":
        pipe.enable_model_cpu_offload(device="cpu")
    else:
        cpu_offload(pipe.vae, torch.device("cpu"))
    assert pinco.decoder.movable
    latents = pinco.sample(pinco.encode_canvas(make_canvas()), _requests(pinco))
    assert not latents.batches
    with pinco.decoder.alone(), ThreadPoolExecutor(1) as pool:  # the thread would wait for the VAE
        images = pool.submit(pinco.decode, latents).result(10)
    assert all(np.array_equal(*pair) for pair in zip(images, wanted, strict=True))
    pipe.remove_all_hooks()


def test_a_decode_on_cuda_waits_for_its_latents_and_for_nothing_later(
    new_pipe: Callable[[str], Any], make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked of CUDA, in order; the stand-in for it computes on the CPU."""
    pipe, told = new_pipe("flux"), []
    pinco = PincoPipeline(pipe)
    latents = pinco.sample(pinco.encode_canvas(make_canvas()), _requests(pinco))
    wanted = pinco.decode(latents)

    class Event:
        def record(self, stream: str) -> None:
            told.append(f"{stream} records")

    class Stream:
        def __init__(self, device: Any) -> None:
            told.append("new stream")

        def wait_event(self, event: Any) -> None:
            assert isinstance(event, Event)
            told.append("stream waits")

    @contextmanager
    def on_stream(stream: Stream) -> Any:
        told.append("on stream")
        yield
        told.append("off stream")

    cuda = {"Event": Event, "Stream": Stream, "stream": on_stream, "current_stream": lambda _: "sampling"}
    for name, fake in cuda.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: told.append("kept"))
    monkeypatch.setattr(type(pipe), "_execution_device", SimpleNamespace(type="cuda"))
    latents = replace(latents, ready=pinco.decoder.ready())
    decode = pipe.vae.decode
    pipe.vae.decode = lambda *given, **options: (told.append("decode"), decode(*given, **options))[1]
    try:
        first, again = pinco.decode(latents), pinco.decode(latents)
    finally:
        del pipe.vae.decode
    assert all(np.array_equal(one, two) for made in (first, again) for one, two in zip(made, wanted, strict=True))
    once = ["stream waits", "kept", "kept", "on stream", "decode", "decode", "off stream"]
    assert told == ["sampling records", "new stream", *once, *once]
