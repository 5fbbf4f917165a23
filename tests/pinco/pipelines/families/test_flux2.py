"""What Flux 2 pipelines promise: `Flux2Pipeline` here, klein's beside it; the rest is in `test_pipeline`, for all."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2Pipeline
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from PIL import Image

from pinco.adapter import PincoAdapter
from pinco.adapter.families import family_of
from pinco.adapter.positions import Rotary
from pinco.adapter.tokens import pack
from pinco.pipelines.encoded import image_tensor
from pinco.pipelines.families import UnsupportedBackboneError, pipeline_family
from pinco.pipelines.families.flux2 import DEV, FAMILY
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families.flux2 import LATENT_CHANNELS, new_dev
from tests.pinco.pipelines.odd_pipeline import open_adapter

MakeCanvas = Callable[..., Canvas]
PROMPT = "a bottle on grass"


@pytest.fixture(scope="module")
def pipe() -> Flux2Pipeline:
    return new_dev()


def noise_of(seed: int, width: int, height: int) -> torch.Tensor:
    """The noise that a request with this seed starts from, as the pipelines take it."""
    shape = (1, LATENT_CHANNELS, height // 8, width // 8)
    noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
    return Flux2Pipeline._patchify_latents(noise)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 48), (32, 80)])
@pytest.mark.parametrize("adapted", [True, False], ids=["zero-gates", "bare"])
def test_the_image_is_diffusers_own_bit_for_bit(
    pipe: Flux2Pipeline, make_canvas: MakeCanvas, width: int, height: int, adapted: bool
) -> None:
    adapter = PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config) if adapted else None
    pinco = PincoPipeline(pipe, adapter)
    request = pinco.defaults.request("in snow", seed=1, negative="night", steps=3, guidance=2.5)
    image = pinco.generate(pinco.encode_canvas(make_canvas(width, height, left=4)), [request])[0]
    if adapter is not None:
        adapter.detach()
    bare = pipe(
        prompt="in snow",
        num_inference_steps=3,
        guidance_scale=2.5,
        latents=noise_of(1, width, height),
        width=width,
        height=height,
    ).images[0]
    assert np.array_equal(image, np.asarray(bare))


def test_latents_are_those_of_the_pipelines_own_image_conditioning(
    pipe: Flux2Pipeline, make_canvas: MakeCanvas
) -> None:
    """Normalised by the batch norm's statistics, packed as the transformer takes them."""
    canvas = make_canvas(64, 48)
    image = image_tensor(canvas)
    prepared = pipe.image_processor.preprocess(Image.fromarray(canvas.image), height=48, width=64, resize_mode="crop")
    torch.testing.assert_close(image, prepared)
    with torch.no_grad():
        wanted, _ = pipe.prepare_image_latents([image], 1, None, "cpu", torch.float32)  # type: ignore[arg-type]
        latents = FAMILY.encode_image(pipe, image)
    assert latents.shape == (1, LATENT_CHANNELS, 6, 8)
    assert torch.equal(pack(latents, 2), wanted)
    assert torch.equal(PincoPipeline(pipe).encode_canvas(canvas).clean, wanted)


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_positions_are_those_of_the_pipelines_ids(pipe: Flux2Pipeline, grid: tuple[int, int]) -> None:
    noise = noise_of(0, 16 * grid[1], 16 * grid[0])
    _, ids = pipe.prepare_latents(1, LATENT_CHANNELS, 16 * grid[0], 16 * grid[1], torch.float32, "cpu", None, noise)  # type: ignore[arg-type]
    table = family_of(pipe.transformer).positions(pipe.transformer, grid, "cpu")
    assert isinstance(table, Rotary)
    for mine, wanted in zip((table.cos, table.sin), pipe.transformer.pos_embed(ids[0]), strict=True):
        assert torch.equal(mine, wanted)


@torch.no_grad()
def test_a_prompt_is_three_hidden_layers_of_its_template(pipe: Flux2Pipeline) -> None:
    embeds = FAMILY.encode_prompt(pipe, PROMPT, 256)["prompt_embeds"]
    text = f"<s>[SYSTEM_PROMPT]{SYSTEM_MESSAGE}[/SYSTEM_PROMPT][INST]{PROMPT}[/INST]"
    tokens = pipe.tokenizer(text, padding="max_length", max_length=256, return_tensors="pt")
    hidden = pipe.text_encoder(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True
    ).hidden_states
    assert torch.equal(embeds, torch.cat([hidden[layer] for layer in (10, 20, 30)], dim=-1))


def test_guidance_is_embedded_and_a_negative_prompt_has_no_effect(pipe: Flux2Pipeline, make_canvas: MakeCanvas) -> None:
    pinco = PincoPipeline(pipe)
    encoded = pinco.encode_canvas(make_canvas())
    one, strong, negative = (
        pinco.generate(encoded, [pinco.defaults.request(PROMPT, seed=1, steps=2, **options)])[0]
        for options in ({"guidance": 1.0}, {"guidance": 8.0}, {"guidance": 1.0, "true_cfg": 3.0, "negative": "night"})
    )
    assert not np.array_equal(one, strong) and np.array_equal(one, negative)


def test_loaded_from_its_folder_it_makes_the_same_bytes(
    pipe: Flux2Pipeline, make_canvas: MakeCanvas, tmp_path: Path
) -> None:
    adapter = open_adapter(pipe)
    pinco = PincoPipeline(pipe, adapter)
    request = pinco.defaults.request(PROMPT, seed=1, steps=2, blending=True)
    wanted = pinco.generate(pinco.encode_canvas(make_canvas()), [request])[0]
    pipe.save_pretrained(tmp_path / "backbone")
    adapter.save_pretrained(tmp_path / "adapter")
    adapter.detach()
    loaded = load_pipeline(tmp_path / "backbone", tmp_path / "adapter")
    assert np.array_equal(loaded.generate(loaded.encode_canvas(make_canvas()), [request])[0], wanted)
    folder = BackboneFolder(tmp_path / "backbone")
    assert folder.family is loaded.family is pipeline_family("Flux2Pipeline") is FAMILY
    assert folder.defaults == loaded.defaults == DEV
    assert folder.size_multiple == loaded.dims.token_stride == 16


def test_the_pipelines_own_defaults_are_ours() -> None:
    own = inspect.signature(Flux2Pipeline.__call__).parameters
    assert (DEV.steps, DEV.guidance) == (own["num_inference_steps"].default, own["guidance_scale"].default)
    assert DEV.max_sequence_length == own["max_sequence_length"].default


def test_a_processor_that_cannot_start_is_named_before_anything_is_loaded(
    pipe: Flux2Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))

    def found(there: bool) -> Callable[..., Any]:
        return lambda name: there if name == "torchvision" else find_spec(name)

    monkeypatch.setattr("pinco.pipelines.families.flux2.find_spec", found(True))
    assert BackboneFolder(tmp_path).family is FAMILY
    monkeypatch.setattr("pinco.pipelines.families.flux2.find_spec", lambda name: None)
    with pytest.raises(UnsupportedBackboneError, match=r"Flux2Pipeline in .* has a PixtralProcessor .*pip install"):
        load_pipeline(tmp_path)
