"""What only Hunyuan-DiT pipelines promise; the rest is in `test_pipeline`, for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HunyuanDiTPipeline

from pinco.adapter import PincoAdapter
from pinco.pipelines.families.hunyuan import FAMILY
from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families.hunyuan import new_pipe
from tests.pinco.pipelines.diffusers_decode import decode_in_the_call
from tests.pinco.pipelines.odd_pipeline import open_adapter

MakeCanvas = Callable[..., Canvas]
PROMPT, NEGATIVE = "a bottle on grass", "night"


@pytest.fixture
def pipe(new_pipe: Callable[[str], Any]) -> HunyuanDiTPipeline:
    return new_pipe("hunyuan")


def test_a_shift_in_the_vae_is_left_alone_as_in_diffusers(pipe: HunyuanDiTPipeline, make_canvas: MakeCanvas) -> None:
    pinco = PincoPipeline(pipe)
    request, encoded = pinco.defaults.request(PROMPT, seed=1, steps=2), pinco.encode_canvas(make_canvas())
    vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=2.0, shift_factor=0.5), dtype=torch.float32)
    latents = pinco.sample(encoded, [request]).batches[0][1]
    assert torch.equal(FAMILY.for_the_vae(SimpleNamespace(vae=vae), latents, encoded.size, pinco.dims), latents / 2)


def test_what_the_safety_checker_finds_is_black_as_in_diffusers(
    pipe: HunyuanDiTPipeline, make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinco = PincoPipeline(pipe, one_at_a_time=False)
    encoded = pinco.encode_canvas(make_canvas())
    requests = [pinco.defaults.request(PROMPT, seed=seed, steps=2) for seed in (1, 2)]
    plain = pinco.generate(encoded, requests)

    def checker(images: torch.Tensor, clip_input: torch.Tensor) -> tuple[torch.Tensor, list[bool]]:
        unsafe = [bool(image.clamp(-1, 1).mean() < limit) for image in images]
        return torch.stack([image * (not one) for image, one in zip(images, unsafe, strict=True)]), unsafe

    means = [image.mean() / 127.5 - 1 for image in plain]
    limit = sum(means) / 2
    features = SimpleNamespace(pixel_values=torch.zeros(1))
    features.to = lambda device: features
    monkeypatch.setattr(pipe, "safety_checker", checker)
    monkeypatch.setattr(pipe, "feature_extractor", lambda *_, **__: features)
    images = pinco.generate(encoded, requests)
    decode_in_the_call(pinco, pipe, monkeypatch)
    wanted = pinco.generate(encoded, requests)
    assert sorted(image.any() for image in images) == [False, True]
    assert all(np.array_equal(one, other) for one, other in zip(images, wanted, strict=True))


def _noise(generator: torch.Generator, width: int, height: int) -> torch.Tensor:
    return torch.randn((1, 4, height // 8, width // 8), generator=generator)


def _assert_equals_diffusers(
    pipe: HunyuanDiTPipeline, canvas: Canvas, true_cfg: float, adapter: PincoAdapter | None
) -> None:
    height, width = canvas.alpha.shape
    pinco = PincoPipeline(pipe, adapter)
    request = pinco.defaults.request(PROMPT, seed=1, negative=NEGATIVE, steps=3, true_cfg=true_cfg)
    image = pinco.generate(pinco.encode_canvas(canvas), [request])[0]
    if adapter is not None:
        adapter.detach()
    generator = torch.Generator("cpu").manual_seed(1)
    settings = dict(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        guidance_scale=true_cfg,
        num_inference_steps=3,
        width=width,
        height=height,
        use_resolution_binning=False,
        output_type="pil",
    )
    given = pipe(**settings, latents=_noise(generator, width, height), generator=generator).images[0]
    assert np.array_equal(image, np.asarray(given))
    # The noise and the sampler's own are those that diffusers draws from one seed.
    drawn = pipe(**settings, generator=torch.Generator("cpu").manual_seed(1)).images[0]
    assert np.array_equal(image, np.asarray(drawn))


@pytest.mark.parametrize("style", [False, True], ids=["1.2", "1.1"])
@pytest.mark.parametrize(("width", "height", "true_cfg"), [(64, 64, 5.0), (96, 48, 5.0), (48, 96, 1.0)])
def test_with_zero_gates_it_is_diffusers_pipeline_bit_for_bit(
    make_canvas: MakeCanvas, style: bool, width: int, height: int, true_cfg: float
) -> None:
    pipe = new_pipe(use_style_cond_and_image_meta_size=style)
    adapter = PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config)
    _assert_equals_diffusers(pipe, make_canvas(width, height), true_cfg, adapter)


def test_without_an_adapter_it_is_diffusers_pipeline_bit_for_bit(
    pipe: HunyuanDiTPipeline, make_canvas: MakeCanvas
) -> None:
    _assert_equals_diffusers(pipe, make_canvas(96, 48), 5.0, None)


def test_the_samplers_noise_is_each_images_own(pipe: HunyuanDiTPipeline, make_canvas: MakeCanvas) -> None:
    """DDPM draws at every step: from the seed alone, not from what was drawn before or beside it."""
    pinco = PincoPipeline(pipe, open_adapter(pipe), one_at_a_time=False)
    encoded = pinco.encode_canvas(make_canvas())
    requests = [pinco.defaults.request(PROMPT, seed=seed, steps=3) for seed in (1, 2)]
    torch.manual_seed(0)
    alone = [pinco.generate(encoded, [request])[0] for request in requests]
    torch.manual_seed(5)
    together = pinco.generate(encoded, requests)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


@torch.no_grad()
def test_embeddings_are_those_of_diffusers(pipe: HunyuanDiTPipeline) -> None:
    mine = FAMILY.encode_prompt(pipe, PROMPT, 256)
    mine = mine | FAMILY.negative(FAMILY.encode_prompt(pipe, NEGATIVE, 256))
    for number, (suffix, length) in enumerate((("", 77), ("_2", 256))):
        wanted = pipe.encode_prompt(
            PROMPT, negative_prompt=NEGATIVE, max_sequence_length=length, text_encoder_index=number
        )
        names = ("prompt_embeds", "negative_prompt_embeds", "prompt_attention_mask", "negative_prompt_attention_mask")
        for name, tensor in zip(names, wanted, strict=True):
            assert torch.equal(mine[name + suffix], tensor), name + suffix
    assert int(mine["prompt_attention_mask"].sum()) < 77  # there is something to mask


@pytest.mark.parametrize("absent", ["text_encoder", "text_encoder_2"])
def test_the_places_of_an_absent_encoder_are_masked(
    pipe: HunyuanDiTPipeline, make_canvas: MakeCanvas, absent: str, tmp_path: Path
) -> None:
    gone = dict.fromkeys((absent, absent.replace("text_encoder", "tokenizer")))
    HunyuanDiTPipeline(**(pipe.components | gone), requires_safety_checker=False).save_pretrained(tmp_path)
    pinco = load_pipeline(tmp_path)
    assert getattr(pinco.pipe, absent) is None
    embeddings = pinco.prompts[PROMPT]
    suffix = absent.removeprefix("text_encoder")
    assert not embeddings[f"prompt_attention_mask{suffix}"].any()
    assert embeddings["prompt_attention_mask" + ("" if suffix else "_2")].any()
    images = [
        pinco.generate(pinco.encode_canvas(make_canvas()), [pinco.defaults.request(prompt, seed=1, steps=1)])[0]
        for prompt in (PROMPT, "in snow")
    ]
    assert not np.array_equal(*images)


@torch.no_grad()
def test_latents_are_scaled_and_not_shifted(pipe: HunyuanDiTPipeline) -> None:
    """As `HunyuanDiTPipeline` undoes it before decoding."""
    image = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = FAMILY.encode_image(pipe, image)
    mode = pipe.vae.encode(image).latent_dist.mode()
    torch.testing.assert_close(latents / pipe.vae.config.scaling_factor, mode)


def test_a_size_that_the_pipeline_would_change_is_kept(pipe: HunyuanDiTPipeline, make_canvas: MakeCanvas) -> None:
    pinco = PincoPipeline(pipe)
    request = pinco.defaults.request(PROMPT, seed=1, steps=1)
    image = pinco.generate(pinco.encode_canvas(make_canvas(80, 48)), [request])[0]
    assert image.shape == (48, 80, 3)


@pytest.mark.parametrize("steps", [2, 5])
def test_what_is_blended_in_is_as_noisy_as_the_sample(pipe: HunyuanDiTPipeline, steps: int) -> None:
    """A sampler with a perfect model walks along `renoise` where it draws no noise of its own."""
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    clean, noise = torch.randn(2, 1, 4, 6, 8, generator=torch.Generator().manual_seed(3))
    sample = scheduler.add_noise(clean, noise, scheduler.timesteps[:1])
    for step, timestep in enumerate(scheduler.timesteps):
        velocity = scheduler.get_velocity(clean, noise, timestep[None])
        sample = scheduler.step(velocity, timestep, sample, return_dict=False)[0]
        wanted = FAMILY.renoise(scheduler, step, clean, noise)
        if step + 1 < steps:
            torch.testing.assert_close(sample, wanted, atol=2e-3, rtol=0)
    assert torch.equal(FAMILY.renoise(scheduler, steps - 1, clean, noise), clean)


def test_another_sampler_may_take_its_place(pipe: HunyuanDiTPipeline, make_canvas: MakeCanvas) -> None:
    """Also one that measures noise by sigmas, and scales what the transformer gets."""
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pinco = PincoPipeline(pipe)
    encoded = pinco.encode_canvas(make_canvas())
    images = [
        pinco.generate(encoded, [pinco.defaults.request(PROMPT, seed=1, steps=2, blending=blending)])[0]
        for blending in (False, True)
    ]
    assert not np.array_equal(*images)


def test_usual_settings_and_sizes() -> None:
    usual = FAMILY.usual({"sample_size": 128, "text_len_t5": 256})
    assert (usual.steps, usual.true_cfg, usual.guidance) == (50, 5.0, 0.0)
    assert (usual.working_pixels, usual.max_sequence_length) == (1024 * 1024, 256)
    assert FAMILY.size_multiple({"patch_size": 2}, {"block_out_channels": [1, 1, 1, 1]}) == 16
