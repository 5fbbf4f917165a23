"""What only Z-Image pipelines promise; the rest is in `test_pipeline`, for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ZImagePipeline

from pinco.adapter import PincoAdapter
from pinco.pipelines.encoded import image_tensor
from pinco.pipelines.families import UnsupportedBackboneError, pipeline_family
from pinco.pipelines.families.z_image import FAMILY, TURBO
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families.z_image import new_pipe

MakeCanvas = Callable[..., Canvas]
PROMPT = "a bottle on grass"


@pytest.fixture(scope="module")
def pipe() -> ZImagePipeline:
    return new_pipe()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 48), (32, 80)])
@pytest.mark.parametrize("adapted", [True, False], ids=["zero-gates", "bare"])
@pytest.mark.parametrize("true_cfg", [1.0, 3.5])
def test_the_image_is_diffusers_own_bit_for_bit(
    pipe: ZImagePipeline, make_canvas: MakeCanvas, width: int, height: int, adapted: bool, true_cfg: float
) -> None:
    adapter = PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config) if adapted else None
    pinco = PincoPipeline(pipe, adapter)
    request = pinco.defaults.request("in snow", seed=1, negative="a night", steps=3, true_cfg=true_cfg)
    image = pinco.generate(pinco.encode_canvas(make_canvas(width, height, left=4)), [request])[0]
    if adapter is not None:
        adapter.detach()
    noise = torch.randn((1, 16, height // 8, width // 8), generator=torch.Generator("cpu").manual_seed(1))
    bare = pipe(
        prompt="in snow",
        negative_prompt="a night",
        num_inference_steps=3,
        guidance_scale=true_cfg - 1,
        latents=noise,
        width=width,
        height=height,
    ).images[0]
    assert np.array_equal(image, np.asarray(bare))


@torch.no_grad()
def test_a_prompt_is_a_hidden_layer_of_its_template_without_padding(pipe: ZImagePipeline) -> None:
    (tokens,) = FAMILY.encode_prompt(pipe, PROMPT, 128)["prompt_embeds"]
    text = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    given = pipe.tokenizer(text, return_tensors="pt")
    hidden = pipe.text_encoder(given.input_ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(tokens, hidden[-2][0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_latents_are_what_the_pipeline_decodes_back(pipe: ZImagePipeline, make_canvas: MakeCanvas) -> None:
    image = image_tensor(make_canvas())
    latents = FAMILY.encode_image(pipe, image)
    back = latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    torch.testing.assert_close(back, pipe.vae.encode(image).latent_dist.mode())


def test_the_folder_says_without_loading_what_the_pipeline_says(pipe: ZImagePipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    folder, loaded = BackboneFolder(tmp_path), load_pipeline(tmp_path)
    assert folder.family is loaded.family is FAMILY
    assert folder.defaults == loaded.defaults == TURBO
    assert folder.size_multiple == loaded.dims.token_stride == 16


def test_omni_is_refused_with_the_way_out() -> None:
    with pytest.raises(UnsupportedBackboneError, match=r"models/x holds a ZImageOmniPipeline, which .*Z-Image-Turbo"):
        pipeline_family("ZImageOmniPipeline", "models/x")
