"""What only Flux 2 klein pipelines promise; the rest is in `test_flux2` and, for all families, in `test_pipeline`."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline, Flux2KleinPipeline

from pinco.adapter import PincoAdapter
from pinco.pipelines.families import UnsupportedBackboneError, pipeline_family
from pinco.pipelines.families.flux2_klein import BASE, DISTILLED, FAMILY
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families.flux2 import LATENT_CHANNELS, new_klein
from tests.pinco.pipelines.families.test_flux2 import noise_of

MakeCanvas = Callable[..., Canvas]
PROMPT = "a bottle on grass"


@pytest.fixture(scope="module")
def base() -> Flux2KleinPipeline:
    return new_klein()


@pytest.fixture(scope="module")
def distilled() -> Flux2KleinPipeline:
    return new_klein(is_distilled=True)


@pytest.mark.parametrize("kind", ["base", "distilled"])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 48), (32, 80)])
@pytest.mark.parametrize("adapted", [True, False], ids=["zero-gates", "bare"])
def test_the_image_is_diffusers_own_bit_for_bit(
    request: pytest.FixtureRequest, make_canvas: MakeCanvas, kind: str, width: int, height: int, adapted: bool
) -> None:
    pipe = request.getfixturevalue(kind)
    adapter = PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config) if adapted else None
    pinco = PincoPipeline(pipe, adapter)
    wanted = pinco.defaults.request("in snow", seed=1, steps=3)
    assert wanted.true_cfg == (4.0 if kind == "base" else 1.0)
    image = pinco.generate(pinco.encode_canvas(make_canvas(width, height, left=4)), [wanted])[0]
    if adapter is not None:
        adapter.detach()
    bare = pipe(
        prompt="in snow",
        num_inference_steps=3,
        guidance_scale=wanted.true_cfg,
        latents=noise_of(1, width, height),
        width=width,
        height=height,
    ).images[0]
    assert np.array_equal(image, np.asarray(bare))


def test_a_negative_prompt_is_encoded_as_the_pipeline_encodes_its_empty_one(
    base: Flux2KleinPipeline, make_canvas: MakeCanvas
) -> None:
    pinco = PincoPipeline(base)
    encoded = pinco.encode_canvas(make_canvas())
    request = pinco.defaults.request(PROMPT, seed=1, steps=2, negative="night", true_cfg=3.0)
    with torch.no_grad():
        negative, _ = base.encode_prompt("night")
    bare = base(
        prompt=PROMPT,
        negative_prompt_embeds=negative,
        num_inference_steps=2,
        guidance_scale=3.0,
        latents=noise_of(1, 64, 48),
        width=64,
        height=48,
    ).images[0]
    assert np.array_equal(pinco.generate(encoded, [request])[0], np.asarray(bare))


@torch.no_grad()
def test_a_prompt_is_three_hidden_layers_of_its_template(base: Flux2KleinPipeline) -> None:
    embeds = FAMILY.encode_prompt(base, PROMPT, 128)["prompt_embeds"]
    text = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    tokens = base.tokenizer(text, padding="max_length", max_length=128, return_tensors="pt")
    hidden = base.text_encoder(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True
    ).hidden_states
    assert torch.equal(embeds, torch.cat([hidden[layer] for layer in (9, 18, 27)], dim=-1))


def test_a_distilled_checkpoint_takes_no_guidance_and_no_warning_comes(
    distilled: Flux2KleinPipeline, make_canvas: MakeCanvas
) -> None:
    pinco = PincoPipeline(distilled)
    encoded = pinco.encode_canvas(make_canvas())
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("diffusers").addHandler(handler)
    try:
        plain, guided = (
            pinco.generate(encoded, [pinco.defaults.request(PROMPT, seed=1, negative="night", true_cfg=cfg)])[0]
            for cfg in (1.0, 4.0)
        )
    finally:
        logging.getLogger("diffusers").removeHandler(handler)
    assert np.array_equal(plain, guided) and records == []


@pytest.mark.parametrize(("kind", "wanted"), [("base", BASE), ("distilled", DISTILLED)])
def test_the_folder_says_which_of_the_two_it_is(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, wanted: object
) -> None:
    pipe = request.getfixturevalue(kind)
    pipe.save_pretrained(tmp_path)
    folder, loaded = BackboneFolder(tmp_path), load_pipeline(tmp_path)
    assert folder.defaults == loaded.defaults == PincoPipeline(pipe).defaults == wanted
    assert folder.family is loaded.family
    assert folder.size_multiple == loaded.dims.token_stride == 16


def test_an_index_that_does_not_say_is_base(base: Flux2KleinPipeline, tmp_path: Path) -> None:
    base.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    del index["is_distilled"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert BackboneFolder(tmp_path).defaults == load_pipeline(tmp_path).defaults == BASE


def test_the_pipelines_own_defaults_are_those_of_base() -> None:
    own = inspect.signature(Flux2KleinPipeline.__call__).parameters
    assert (BASE.steps, BASE.true_cfg) == (own["num_inference_steps"].default, own["guidance_scale"].default)
    assert BASE.max_sequence_length == own["max_sequence_length"].default


@pytest.mark.parametrize("name", ["Flux2KleinKVPipeline", "Flux2KleinInpaintPipeline"])
def test_pipelines_that_are_no_text_to_image_are_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(UnsupportedBackboneError, match=rf"models/x holds a {name}, which .*FLUX\.2-klein-4B"):
        pipeline_family(name, "models/x")


@pytest.mark.parametrize("is_distilled", [False, True])
def test_the_inpainting_pipeline_is_called_as_diffusers_calls_it(is_distilled: bool, make_canvas: MakeCanvas) -> None:
    """With the background grown to whole tokens; at sizes where diffusers' own does not make the image smaller."""
    pipe, canvas = new_klein(is_distilled=is_distilled), make_canvas(64, 48, left=16, top=16, side=16)
    pinco = PincoPipeline(pipe)
    request = pinco.defaults.request("in snow", seed=1, negative="night", steps=5, true_cfg=2.0)
    image = pinco.generate(pinco.encode_canvas(canvas, "fill"), [request])[0]
    noise = torch.randn((1, LATENT_CHANNELS, 6, 8), generator=torch.Generator("cpu").manual_seed(request.seed))
    negative, _ = pipe.encode_prompt("night")
    with torch.no_grad():
        wanted = Flux2KleinInpaintPipeline(**pipe.components, is_distilled=is_distilled)(
            prompt=request.prompt,
            negative_prompt_embeds=None if is_distilled else negative,
            image=torch.from_numpy(canvas.image).permute(2, 0, 1)[None].contiguous() / 255,
            mask_image=torch.from_numpy(255 - canvas.alpha)[None, None] / 255,
            strength=1.0,
            num_inference_steps=5,
            guidance_scale=1.0 if is_distilled else 2.0,
            latents=torch.nn.functional.pixel_unshuffle(noise, 2),
        ).images[0]
    assert np.array_equal(image, np.asarray(wanted))


def test_inpainting_leaves_the_size_of_a_large_canvas_alone(make_canvas: MakeCanvas) -> None:
    """diffusers' pipeline makes images above 1024 x 1024 pixels smaller, without a word."""
    pinco = PincoPipeline(new_klein(is_distilled=True))
    encoded = pinco.encode_canvas(make_canvas(1056, 1024), "fill")
    image = pinco.generate(encoded, [pinco.defaults.request("in snow", seed=1, steps=1)])[0]
    assert image.shape == (1024, 1056, 3)
