"""Fill checkpoints: what diffusers' own `FluxFillPipeline` makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from pinco.pipelines.families import UnsupportedBackboneError
from pinco.pipelines.families.flux_fill import FILL
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families.inpainting import new_fill


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    new_fill().save_pretrained(tmp_path)
    return tmp_path


def test_it_is_diffusers_pipeline_bit_for_bit(
    make_canvas: Callable[..., Canvas], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the known image's latents, of which diffusers draws a sample and we take the mean."""
    pipe, canvas = new_fill(), make_canvas(64, 48)
    pinco = PincoPipeline(pipe)
    request = pinco.defaults.request("in snow", seed=1, steps=2, guidance=20.0)
    image = pinco.generate(pinco.encode_canvas(canvas, "fill"), [request])[0]
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mean)
    noise = torch.randn((1, 16, 6, 8), generator=torch.Generator("cpu").manual_seed(request.seed))
    wanted = pipe(
        prompt=request.prompt,
        image=torch.from_numpy(canvas.image).permute(2, 0, 1)[None].contiguous() / 255,
        mask_image=torch.from_numpy(255 - canvas.alpha)[None, None] / 255,
        num_inference_steps=2,
        guidance_scale=20.0,
        latents=FluxFillPipeline._pack_latents(noise, 1, 16, 6, 8),
        width=64,
        height=48,
    ).images[0]
    assert np.array_equal(image, np.asarray(wanted))


def test_its_folder_is_read_and_loaded(folder: Path) -> None:
    read, loaded = BackboneFolder(folder), load_pipeline(folder)
    assert type(loaded.pipe) is FluxFillPipeline
    assert read.family is loaded.family and read.family.methods == ("fill",)
    assert read.defaults == loaded.defaults == FILL
    assert read.size_multiple == loaded.dims.token_stride == 16
    assert loaded.dims.latent_channels == 16


def test_a_transformer_of_another_kind_is_refused_with_the_way_out(folder: Path) -> None:
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": 64}))
    with pytest.raises(UnsupportedBackboneError, match=r"takes 64 channels .* takes 384: .*Fetch FLUX\.1-Fill-dev"):
        BackboneFolder(folder)
