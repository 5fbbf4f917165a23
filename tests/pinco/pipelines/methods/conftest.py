"""Tiny weights in folders, loaded by our own loader: one entry for each inpainting pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.pipeline import PincoPipeline
from tests.families import flux2, inpainting, sd3


@dataclass(frozen=True)
class Case:
    """A backbone and a method that needs an inpainting pipeline."""

    method: str
    backbone: Callable[[], Any]
    controlnet: Callable[[Any], Any] | None = None


CASES = {
    "flux-fill": Case("fill", inpainting.new_fill),
    "flux2-klein": Case("fill", flux2.new_klein),
    "flux-controlnet": Case("controlnet", inpainting.new_flux, inpainting.new_flux_controlnet),
    "sd3-controlnet": Case("controlnet", sd3.new_pipe, lambda _: inpainting.new_sd3_controlnet()),
}


@pytest.fixture(scope="session")
def load_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PincoPipeline]:
    @cache
    def saved(name: str) -> Path:
        folder, case = tmp_path_factory.mktemp(name), CASES[name]
        pipe = case.backbone()
        pipe.save_pretrained(folder / "backbone")
        if case.controlnet is not None:
            case.controlnet(pipe).save_pretrained(folder / "controlnet")
        return folder

    def load(name: str) -> PincoPipeline:
        folder = saved(name)
        controlnet = folder / "controlnet"
        return load_pipeline(folder / "backbone", controlnet=controlnet if controlnet.is_dir() else None)

    return load


@pytest.fixture(params=CASES)
def inpainting_case(request: pytest.FixtureRequest, load_case: Callable[[str], PincoPipeline]) -> Any:
    """Pipeline and method, each case in turn."""
    return load_case(request.param), CASES[request.param].method
