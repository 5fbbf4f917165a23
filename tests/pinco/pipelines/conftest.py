"""Pipelines with every real part, tiny and random: the toy's layout, and the odd one. And canvases for them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from diffusers import FluxPipeline

from pinco.adapter import PincoAdapter
from pinco.toy.model.untrained import untrained_parts
from preprocessing.canvas import Canvas
from tests.families import flux2, hunyuan, sd3, z_image
from tests.pinco.pipelines.odd_pipeline import make_odd_pipe, open_adapter

VAE = {"scaling_factor": 0.9, "shift_factor": 0.05}


def make_flux_pipe(**transformer: Any) -> FluxPipeline:
    pipe = untrained_parts(7, vae_changes=VAE, transformer_changes=transformer).pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def _made() -> Callable[[str], Any]:
    makers = {
        "flux": make_flux_pipe,
        "flux-deeper": lambda: make_flux_pipe(num_layers=2, num_single_layers=2),
        "flux2-klein": flux2.new_klein,
        "sd3": sd3.new_pipe,
        "hunyuan": hunyuan.new_pipe,
        "z-image": z_image.new_pipe,
        "odd": make_odd_pipe,
    }
    return cache(lambda name: makers[name]())


@pytest.fixture
def new_pipe(_made: Callable[[str], Any]) -> Callable[[str], Any]:
    """Pipelines by name, whose transformers nobody else touches."""

    def make(name: str) -> Any:
        pipe = _made(name)
        return type(pipe)(**(pipe.components | {"transformer": copy.deepcopy(pipe.transformer)}))

    return make


@pytest.fixture(params=["flux", "flux2-klein", "sd3", "hunyuan", "z-image", "odd"])
def pipe(request: pytest.FixtureRequest, new_pipe: Callable[[str], Any]) -> Any:
    """Every pipeline in turn: what is tested with it holds for all families."""
    return new_pipe(request.param)


@pytest.fixture
def adapter(pipe: Any) -> Iterator[PincoAdapter]:
    """An adapter for the pipeline's backbone with open gates, not attached yet."""
    made = open_adapter(pipe)
    yield made
    made.detach()


@pytest.fixture
def make_canvas() -> Callable[..., Canvas]:
    """Canvases with a bright box on grey: `make_canvas(width, height, left=..., top=...)`."""

    def make(width: int = 64, height: int = 48, left: int = 16, top: int = 8, side: int = 24) -> Canvas:
        image = np.full((height, width, 3), 128, np.uint8)
        maps = np.zeros((3, height, width), np.uint8)
        box = (slice(top, top + side), slice(left, left + side))
        image[box] = (240, 60, 20)
        maps[(0, *box)] = 255
        maps[(1, *box)] = 200
        maps[2, top, left : left + side] = 180
        return Canvas(image, *maps)

    return make
