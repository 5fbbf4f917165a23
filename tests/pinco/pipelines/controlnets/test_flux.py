"""Flux ControlNets with channels for the mask, laid out as alimama-creative's inpainting ControlNet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import FluxPipeline

from pinco.pipelines.controlnets.flux import masked_controlnet, takes_a_mask
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families.inpainting import new_flux, new_flux_controlnet


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder whose configuration says nothing of the mask's channels: only the weights do."""
    new_flux_controlnet(new_flux()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("extra_condition_channels") == 4 and config["_class_name"] == "FluxControlNetModel"
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_it_loads_what_diffusers_own_class_cannot(published: Path) -> None:
    with pytest.raises((ValueError, RuntimeError), match=r"size mismatch|shape|Cannot load"):
        diffusers.FluxControlNetModel.from_pretrained(published)
    loaded = masked_controlnet().from_pretrained(published)
    assert isinstance(loaded, diffusers.FluxControlNetModel)
    assert loaded.controlnet_x_embedder.weight.shape == (32, 68)
    wanted = new_flux_controlnet(new_flux()).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize(("width", "takes"), [(68, True), (64, False), (72, False)])
def test_it_is_told_by_the_weights(width: int, takes: bool) -> None:
    shapes = {"controlnet_x_embedder.weight": (32, width)}
    assert takes_a_mask({"in_channels": 64}, shapes) is takes
    assert not takes_a_mask({"in_channels": 64}, {})


def test_without_a_mask_it_does_not_run() -> None:
    with pytest.raises(RuntimeError, match="set known"):
        new_flux_controlnet(new_flux())(torch.zeros(1, 12, 64), torch.zeros(1, 12, 64))


def test_the_condition_is_the_masked_image_on_black_with_the_mask_behind_it(make_canvas: Any) -> None:
    """17 channels, packed as one: 16 of latents and 1 of the mask, which is 1 where the image is known."""
    pipe = new_flux()
    pinco, canvas = PincoPipeline(pipe, controlnet=new_flux_controlnet(pipe)), make_canvas(64, 48, left=12, top=8)
    seen: list[Any] = []
    pinco.controlnet.controlnet_x_embedder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    pinco.generate(pinco.encode_canvas(canvas, "controlnet"), [pinco.defaults.request("on grass", seed=1, steps=1)])
    with torch.no_grad():
        masked = torch.from_numpy(canvas.image * (canvas.alpha == 255)[..., None]).permute(2, 0, 1)[None] / 127.5 - 1
        latents = pipe.vae.encode(masked).latent_dist.mode()
    latents = (latents - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    known = torch.from_numpy(_nearest(canvas))[None, None]
    wanted = FluxPipeline._pack_latents(torch.cat((latents, known), dim=1), 1, 17, 6, 8)
    torch.testing.assert_close(seen[0], wanted, atol=1e-5, rtol=1e-5)


def _nearest(canvas: Canvas) -> Any:
    return (canvas.alpha == 255)[::8, ::8].astype("float32")
