"""What only Stable Diffusion 3 pipelines promise; the rest is in `test_pipeline`, for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    SD3ControlNetModel,
    StableDiffusion3ControlNetInpaintingPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from pinco.adapter import PincoAdapter
from pinco.pipelines.families.sd3 import FAMILY
from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families.inpainting import new_sd3_controlnet
from tests.families.sd3 import CLIP_WIDTHS, LAYOUTS, new_pipe

MakeCanvas = Callable[..., Canvas]
PROMPT, NEGATIVE = "a bottle on grass", "night"
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


@pytest.fixture
def pipe(new_pipe: Callable[[str], Any]) -> StableDiffusion3Pipeline:
    return new_pipe("sd3")


def _without(pipe: StableDiffusion3Pipeline, absent: Sequence[str]) -> StableDiffusion3Pipeline:
    gone = [*absent, *(name.replace("text_encoder", "tokenizer") for name in absent)]
    return StableDiffusion3Pipeline(**(pipe.components | dict.fromkeys(gone)))


def _assert_equals_diffusers(
    pipe: StableDiffusion3Pipeline, canvas: Canvas, true_cfg: float, adapter: PincoAdapter | None
) -> None:
    height, width = canvas.alpha.shape
    pinco = PincoPipeline(pipe, adapter)
    request = pinco.defaults.request(PROMPT, seed=1, negative=NEGATIVE, steps=3, true_cfg=true_cfg)
    image = pinco.generate(pinco.encode_canvas(canvas), [request])[0]
    if adapter is not None:
        adapter.detach()
    bare = pipe(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        guidance_scale=true_cfg,
        num_inference_steps=3,
        latents=torch.randn((1, 16, height // 8, width // 8), generator=torch.Generator("cpu").manual_seed(1)),
        width=width,
        height=height,
        output_type="pil",
    ).images[0]
    assert np.array_equal(image, np.asarray(bare))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("width", "height", "true_cfg"), [(64, 64, 5.0), (96, 48, 5.0), (48, 96, 1.0)])
def test_with_zero_gates_it_is_diffusers_pipeline_bit_for_bit(
    make_canvas: MakeCanvas, layout: str, width: int, height: int, true_cfg: float
) -> None:
    pipe = new_pipe(**LAYOUTS[layout])
    adapter = PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config)
    _assert_equals_diffusers(pipe, make_canvas(width, height), true_cfg, adapter)


def test_without_an_adapter_it_is_diffusers_pipeline_bit_for_bit(
    pipe: StableDiffusion3Pipeline, make_canvas: MakeCanvas
) -> None:
    _assert_equals_diffusers(pipe, make_canvas(96, 48), 5.0, None)


def test_without_t5_it_is_diffusers_pipeline_bit_for_bit(
    pipe: StableDiffusion3Pipeline, make_canvas: MakeCanvas, tmp_path: Path
) -> None:
    """T5 is the encoder that people leave out; the folder then says so, and is loaded as it is."""
    _without(pipe, ENCODERS[2:]).save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path).pipe
    assert loaded.text_encoder_3 is None and loaded.tokenizer_3 is None
    adapter = PincoAdapter.for_backbone(loaded.transformer, loaded.vae.config)
    _assert_equals_diffusers(loaded, make_canvas(64, 48), 5.0, adapter)


@torch.no_grad()
def test_embeddings_are_those_of_diffusers(pipe: StableDiffusion3Pipeline) -> None:
    mine = FAMILY.encode_prompt(pipe, PROMPT, 77)
    negatives = FAMILY.negative(FAMILY.encode_prompt(pipe, NEGATIVE, 77))
    wanted = pipe.encode_prompt(PROMPT, None, None, negative_prompt=NEGATIVE, max_sequence_length=77)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    for name, tensor in zip(names, wanted, strict=True):
        assert torch.equal((mine | negatives)[name], tensor), name


@torch.no_grad()
@pytest.mark.parametrize("absent", [ENCODERS[:1], ENCODERS[1:2], ENCODERS[:2], ENCODERS[::2], ENCODERS[1:]])
def test_the_channels_of_an_absent_encoder_are_zero(
    pipe: StableDiffusion3Pipeline, make_canvas: MakeCanvas, absent: tuple[str, ...]
) -> None:
    whole = FAMILY.encode_prompt(pipe, PROMPT, 77)
    wanted, pooled = whole["prompt_embeds"].clone(), whole["pooled_prompt_embeds"].clone()
    clip_tokens = wanted.shape[1] - 77
    places = {
        "text_encoder": (slice(0, clip_tokens), slice(0, CLIP_WIDTHS[0])),
        "text_encoder_2": (slice(0, clip_tokens), slice(CLIP_WIDTHS[0], None)),
        "text_encoder_3": (slice(clip_tokens, None), slice(None)),
    }
    for name in absent:
        rows, channels = places[name]
        wanted[:, rows, channels] = 0
        if name != "text_encoder_3":
            pooled[:, channels] = 0
    partial = _without(pipe, absent)
    if partial.tokenizer is None:
        partial.tokenizer_max_length = clip_tokens  # without a tokenizer it is 77, as in the released folders
    mine = FAMILY.encode_prompt(partial, PROMPT, 77)
    assert torch.equal(mine["prompt_embeds"], wanted) and torch.equal(mine["pooled_prompt_embeds"], pooled)
    pinco = PincoPipeline(partial)
    request = pinco.defaults.request(PROMPT, seed=1, steps=1)
    assert pinco.generate(pinco.encode_canvas(make_canvas()), [request])[0].std() > 0


@torch.no_grad()
def test_latents_are_those_of_diffusers(pipe: StableDiffusion3Pipeline) -> None:
    """Its image-to-image pipeline encodes images; it draws latents, so the VAE's noise is taken away here."""
    image = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mine = FAMILY.encode_image(pipe, image)
    img2img = StableDiffusion3Img2ImgPipeline(**pipe.components)
    encode = pipe.vae.encode

    class Mode:
        def __init__(self, posterior: Any) -> None:
            self.latents = posterior.latent_dist.mode()

    pipe.vae.encode = lambda pixels: Mode(encode(pixels))
    try:
        img2img.scheduler.set_timesteps(1)
        img2img.scheduler.sigmas = torch.zeros(2)  # no noise is added
        wanted = img2img.prepare_latents(
            image, img2img.scheduler.timesteps[:1], 1, 1, torch.float32, "cpu", torch.Generator().manual_seed(0)
        )
    finally:
        del pipe.vae.encode
    torch.testing.assert_close(mine, wanted, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("layout", "steps", "true_cfg"), [("sd3-medium", 28, 7.0), ("sd3.5-medium", 40, 4.5), ("sd3.5-large", 28, 3.5)]
)
def test_each_size_takes_its_own_settings(layout: str, steps: int, true_cfg: float) -> None:
    usual = FAMILY.usual({"sample_size": 128, **LAYOUTS[layout]})
    assert (usual.steps, usual.true_cfg, usual.working_pixels) == (steps, true_cfg, 1024 * 1024)


def test_a_config_without_the_later_fields_is_sd3_medium() -> None:
    assert FAMILY.usual({"patch_size": 2}) == FAMILY.usual({"sample_size": 128, **LAYOUTS["sd3-medium"]})


def test_the_inpainting_controlnet_is_called_as_diffusers_calls_it(
    make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the known image's latents, of which diffusers draws a sample and we take the mean."""
    pipe, controlnet, canvas = new_pipe(), new_sd3_controlnet(), make_canvas(64, 48)
    pinco = PincoPipeline(pipe, controlnet=controlnet)
    request = pinco.defaults.request("in snow", seed=1, negative="night", steps=2, true_cfg=2.0)
    image = pinco.generate(pinco.encode_canvas(canvas, "controlnet"), [request])[0]
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mean)
    parts = {name: part for name, part in pipe.components.items() if part is not None}
    wanted = StableDiffusion3ControlNetInpaintingPipeline(controlnet=controlnet, **parts)(
        prompt=request.prompt,
        negative_prompt="night",
        control_image=Image.fromarray(canvas.image),
        control_mask=Image.fromarray(255 - canvas.alpha),
        controlnet_conditioning_scale=0.95,
        num_inference_steps=2,
        guidance_scale=2.0,
        latents=torch.randn((1, 16, 6, 8), generator=torch.Generator("cpu").manual_seed(request.seed)),
        width=64,
        height=48,
    ).images[0]
    assert np.array_equal(image, np.asarray(wanted))


def test_an_inpainting_controlnet_is_known_by_its_weights(tmp_path: Path) -> None:
    """The published configuration says nothing of the mask's channel, and diffusers alone does not load the weights."""
    new_pipe().save_pretrained(tmp_path / "backbone")
    controlnet = new_sd3_controlnet()
    controlnet.save_pretrained(tmp_path / "controlnet")
    path = tmp_path / "controlnet" / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("extra_conditioning_channels") == 1
    path.write_text(json.dumps(config))
    with pytest.raises((ValueError, RuntimeError), match="pos_embed_input"):
        SD3ControlNetModel.from_pretrained(tmp_path / "controlnet")
    loaded = load_pipeline(tmp_path / "backbone", controlnet=tmp_path / "controlnet").controlnet
    wanted = controlnet.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.state_dict().items())
