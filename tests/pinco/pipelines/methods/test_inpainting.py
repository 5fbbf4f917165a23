"""What every inpainting pipeline promises, whatever diffusers' own does by itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import Flux2KleinInpaintPipeline
from torch import nn

from pinco.pipelines.execution import Execution
from pinco.pipelines.methods.inpainting import certain, known_pixels, sibling
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families import flux2
from tests.pinco.pipelines.diffusers_decode import decode_in_the_call
from tests.pinco.pipelines.odd_pipeline import open_adapter

MakeCanvas = Callable[..., Canvas]
Case = tuple[PincoPipeline, str]


def _requests(pinco: PincoPipeline) -> list[Any]:
    settings = {"steps": 2, "true_cfg": 2.0}
    return [
        pinco.defaults.request("a ball on grass", seed=1, **settings),
        pinco.defaults.request("in snow", seed=1, negative="night", **settings),
        pinco.defaults.request("a ball on grass", seed=2, **settings),
    ]


def test_images_have_the_canvas_size_and_follow_prompt_seed_and_product(
    inpainting_case: Case, make_canvas: MakeCanvas
) -> None:
    pinco, method = inpainting_case
    requests = _requests(pinco)
    images = pinco.generate(pinco.encode_canvas(make_canvas(64, 48), method), requests)
    images += pinco.generate(pinco.encode_canvas(make_canvas(64, 48, left=32), method), requests[:1])
    assert all(image.shape == (48, 64, 3) and image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == 4


def test_an_image_depends_on_its_request_alone(inpainting_case: Case, make_canvas: MakeCanvas) -> None:
    """Not on what else is in the call, not on what was drawn before from torch's global generator."""
    pinco, method = inpainting_case
    encoded, requests = pinco.encode_canvas(make_canvas(), method), _requests(pinco)
    torch.manual_seed(1)
    together = pinco.generate(encoded, requests)
    for request, image in zip(requests[::-1], together[::-1], strict=True):
        torch.manual_seed(2)
        assert np.array_equal(pinco.generate(encoded, [request])[0], image)


@pytest.mark.parametrize("one_at_a_time", [True, False], ids=["one at a time", "one batch"])
def test_images_are_those_of_the_decode_in_diffusers(
    inpainting_case: Case, make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch, one_at_a_time: bool
) -> None:
    """To the last bit."""
    loaded, method = inpainting_case
    pinco = PincoPipeline(loaded.pipe, controlnet=loaded.controlnet, one_at_a_time=one_at_a_time)
    encoded, requests = pinco.encode_canvas(make_canvas(64, 48), method), _requests(pinco)
    made = pinco.generate(encoded, requests)
    decoded = decode_in_the_call(pinco, pinco.inpainting(method), monkeypatch)
    wanted = pinco.generate(encoded, requests)
    assert sum(decoded) == 3
    assert all(np.array_equal(one, other) for one, other in zip(made, wanted, strict=True))


def test_the_known_image_is_encoded_in_tiles_and_by_this_thread_alone(
    inpainting_case: Case, make_canvas: MakeCanvas
) -> None:
    """Another thread may decode images of another size meanwhile."""
    loaded, method = inpainting_case
    pinco = PincoPipeline(loaded.pipe, controlnet=loaded.controlnet, execution=Execution(vae_tiling="on"))
    vae, seen = pinco.pipe.vae, []
    encode = vae.encode

    def free() -> bool:
        if got := pinco.decoder._lock.acquire(blocking=False):
            pinco.decoder._lock.release()
        return got

    def watch(*arguments: Any, **options: Any) -> Any:
        with ThreadPoolExecutor(1) as other:
            seen.append((vae.use_tiling, other.submit(free).result()))
        return encode(*arguments, **options)

    vae.encode = watch
    encoded, request = pinco.encode_canvas(make_canvas(), method), _requests(pinco)[0]
    hook = pinco.pipe.transformer.register_forward_pre_hook(lambda *_: seen.append(("step", free())))
    pinco.sample(encoded, [request])
    hook.remove()
    vae.__dict__.pop("encode", None)
    assert (True, False) in seen and (True, True) not in seen and not any(tiled is False for tiled, _ in seen)
    assert ("step", True) in seen and ("step", False) not in seen, "the VAE is free while steps run"


def test_a_batch_makes_the_same_images_up_to_rounding(inpainting_case: Case, make_canvas: MakeCanvas) -> None:
    pinco, method = inpainting_case
    encoded, requests = pinco.encode_canvas(make_canvas(), method), _requests(pinco)
    batching = PincoPipeline(pinco.pipe, controlnet=pinco.controlnet, one_at_a_time=False)
    calls: list[int] = []
    hook = pinco.pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    together = batching.generate(encoded, requests)
    hook.remove()
    assert len(calls) <= 2 * 2  # steps and guidance branches of one batch, not of three
    for one, other in zip(pinco.generate(encoded, requests), together, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_the_knob_blending_changes_nothing(inpainting_case: Case, make_canvas: MakeCanvas) -> None:
    pinco, method = inpainting_case
    encoded = pinco.encode_canvas(make_canvas(), method)
    one, other = (
        pinco.generate(encoded, [pinco.defaults.request("on grass", seed=1, steps=2, blending=blending)])[0]
        for blending in (False, True)
    )
    assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ["flux2-klein", "flux-controlnet", "sd3-controlnet"])
def test_an_attached_adapter_is_not_seen(
    load_case: Callable[[str], PincoPipeline], make_canvas: MakeCanvas, name: str
) -> None:
    """So that one backbone in memory serves channels of different methods."""
    pinco = load_case(name)
    method = next(iter(pinco.family.inpainting))
    request = pinco.defaults.request("on grass", seed=1, steps=2)
    image = pinco.generate(pinco.encode_canvas(make_canvas(), method), [request])[0]
    both = PincoPipeline(pinco.pipe, open_adapter(pinco.pipe), controlnet=pinco.controlnet)
    assert np.array_equal(both.generate(both.encode_canvas(make_canvas(), method), [request])[0], image)
    assert not np.array_equal(both.generate(both.encode_canvas(make_canvas(), "pinco"), [request])[0], image)


def test_known_is_what_is_fully_opaque(load_case: Callable[[str], PincoPipeline], make_canvas: MakeCanvas) -> None:
    pinco, canvas = load_case("flux-fill"), make_canvas()
    canvas.alpha[20, 20] = 254
    known = known_pixels(pinco, pinco.encode_canvas(canvas, "fill"))
    assert known.background.shape == (1, 1, 48, 64)
    assert (known.background[0, 0].numpy() == (canvas.alpha < 255)).all()
    assert torch.equal(known.image[0].permute(1, 2, 0) * 255, torch.from_numpy(canvas.image).float())


def test_the_vae_is_certain_inside_and_as_it_was_outside() -> None:
    vae = flux2.new_vae()
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad(), certain(vae):
        latents = vae.encode(image).latent_dist
        assert torch.equal(latents.sample(), latents.mean)
    with torch.no_grad():
        latents = vae.encode(image).latent_dist
        assert not torch.equal(latents.sample(), latents.mean)
    assert "encode" not in vars(vae)


def test_a_sibling_has_the_same_parts_and_the_same_configuration() -> None:
    pipe = flux2.new_klein(is_distilled=True)
    made = sibling(pipe, "Flux2KleinInpaintPipeline")
    assert type(made) is Flux2KleinInpaintPipeline and made.transformer is pipe.transformer
    assert made.config.is_distilled is True
    assert sibling(made, "Flux2KleinInpaintPipeline") is made


@pytest.mark.parametrize("offload", ["by model", "layer by layer"])
def test_offloaded_weights_make_the_images_of_resident_ones(
    inpainting_case: Case, make_canvas: MakeCanvas, offload: str
) -> None:
    """accelerate's hooks work alike on every device; here the CPU is the execution device."""
    pinco, method = inpainting_case
    request = _requests(pinco)[0]
    wanted = pinco.generate(pinco.encode_canvas(make_canvas(), method), [request])[0]
    if offload == "by model":
        pinco.pipe.enable_model_cpu_offload(device="cpu")
    else:
        for part in pinco.pipe.components.values():
            if isinstance(part, nn.Module):
                cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)
                assert all(parameter.is_meta for parameter in part.parameters())
    again = PincoPipeline(pinco.pipe, controlnet=pinco.controlnet)
    for _ in range(2):  # the second time the parts are where the first one left them
        assert np.array_equal(again.generate(again.encode_canvas(make_canvas(), method), [request])[0], wanted)
