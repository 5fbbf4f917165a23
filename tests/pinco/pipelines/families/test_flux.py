"""What only Flux pipelines promise; the rest is in `test_pipeline`, for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from pinco.adapter import PincoAdapter
from pinco.pipelines.encoded import image_tensor
from pinco.pipelines.families.flux import DEV, SCHNELL
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families.inpainting import new_flux, new_flux_controlnet
from tests.pinco.pipelines.conftest import make_flux_pipe

MakeCanvas = Callable[..., Canvas]
PROMPT = "a bottle on grass"


@pytest.fixture
def pipe(new_pipe: Callable[[str], Any]) -> FluxPipeline:
    return new_pipe("flux")


def test_with_zero_gates_it_is_diffusers_pipeline_bit_for_bit(pipe: FluxPipeline, make_canvas: MakeCanvas) -> None:
    adapter = PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config)
    pinco = PincoPipeline(pipe, adapter)
    request = pinco.defaults.request("in snow", seed=1, negative="night", steps=2, true_cfg=2.0)
    image = pinco.generate(pinco.encode_canvas(make_canvas(64, 48)), [request])[0]
    adapter.detach()
    noise = torch.randn((1, 16, 6, 8), generator=torch.Generator("cpu").manual_seed(request.seed))
    bare = pipe(
        prompt=request.prompt,
        negative_prompt=request.negative,
        true_cfg_scale=2.0,
        num_inference_steps=2,
        guidance_scale=request.guidance,
        max_sequence_length=SCHNELL.max_sequence_length,
        latents=FluxPipeline._pack_latents(noise, 1, 16, 6, 8),
        width=64,
        height=48,
        output_type="pil",
    ).images[0]
    assert np.array_equal(image, np.asarray(bare))


def test_an_undistilled_backbone_takes_schnells_settings(pipe: FluxPipeline) -> None:
    assert PincoPipeline(pipe).defaults == SCHNELL


def test_a_guidance_distilled_backbone_takes_devs_settings(make_canvas: MakeCanvas) -> None:
    pipe = make_flux_pipe(guidance_embeds=True)
    pinco = PincoPipeline(pipe, PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config, shape_channels=8))
    assert pinco.defaults == DEV
    encoded = pinco.encode_canvas(make_canvas())
    weak, strong = (
        pinco.generate(encoded, [pinco.defaults.request(PROMPT, seed=1, steps=2, guidance=guidance)])[0]
        for guidance in (1.0, 30.0)
    )
    assert not np.array_equal(weak, strong)


def test_with_a_controlnet_the_known_latents_are_put_in_place(make_canvas: MakeCanvas) -> None:
    """As `FluxControlNetInpaintPipeline` does it, where the whole latent pixel is the product's, and only there."""
    pipe = new_flux()
    pinco = PincoPipeline(pipe, controlnet=new_flux_controlnet(pipe))
    canvas = make_canvas(64, 48, left=12, top=8)  # columns 12 to 36: the latent pixels 2 and 3 are whole
    decoded: list[torch.Tensor] = []
    decode = pipe.vae.decode
    pipe.vae.decode = lambda latents, **options: (decoded.append(latents), decode(latents, **options))[1]
    request = pinco.defaults.request("in snow", seed=1, steps=2)
    pinco.generate(pinco.encode_canvas(canvas, "controlnet"), [request])
    with torch.no_grad():
        clean = pipe.vae.encode(image_tensor(canvas)).latent_dist.mode()
    same = torch.isclose(decoded[0], clean, atol=1e-4).all(dim=1)[0]
    wanted = torch.zeros(6, 8, dtype=torch.bool)
    wanted[1:4, 2:4] = True
    assert torch.equal(same, wanted)
