from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pinco.adapter import BackboneDims
from pinco.pipelines import families as package
from pinco.pipelines.families import UnknownPipelineError, UnsupportedBackboneError, pipeline_family, register
from pinco.pipelines.families.base import PipelineFamily, latent_side
from tests.pinco.pipelines.odd_pipeline import FAMILY as ODD

DIMS = BackboneDims("any", 32, 2, 16, 2, 4, 2, 8)


def test_every_module_of_the_folder_is_a_family_that_is_found() -> None:
    modules = [m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base"]
    assert modules
    for name in modules:
        family = importlib.import_module(f"pinco.pipelines.families.{name}").FAMILY
        assert isinstance(family, PipelineFamily) and family.pipelines
        assert all(pipeline_family(pipeline) is family for pipeline in family.pipelines)


def test_families_are_read_without_torch() -> None:
    code = "import sys, pinco.pipelines.families, pinco.pipelines.folder; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_family_from_elsewhere_is_known_once_it_is_registered() -> None:
    assert register(ODD) is ODD and pipeline_family("OddPipeline") is ODD


def test_what_is_unknown_is_refused_naming_place_and_choice() -> None:
    with pytest.raises(UnknownPipelineError, match=r"models/x holds a WanPipeline; Pinco can run .*OddPipeline.*Name"):
        pipeline_family("WanPipeline", "models/x")


@pytest.mark.parametrize(("packed", "shape"), [(True, (1, 6, 16)), (False, (1, 4, 4, 6))])
def test_latents_are_laid_out_as_the_pipeline_has_them(packed: bool, shape: tuple[int, ...]) -> None:
    class Family(type(ODD)):  # type: ignore[misc]
        pass

    Family.packed = packed
    latents = torch.randn(1, 4, 4, 6)
    assert Family().in_the_loop(latents, DIMS).shape == Family().as_argument(latents, DIMS).shape == shape


@pytest.mark.parametrize(("shift", "wanted"), [(None, 3.0), (0.5, 2.0)])
def test_latents_are_shifted_and_scaled_as_the_vae_says(shift: float | None, wanted: float) -> None:
    class Vae:
        device, dtype = torch.device("cpu"), torch.float64
        config = SimpleNamespace(shift_factor=shift, scaling_factor=2.0)

        def encode(self, image: torch.Tensor) -> Any:
            assert image.dtype == torch.float64
            return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: torch.full((1,), 1.5)))

    latents = ODD.encode_image(SimpleNamespace(_execution_device="cpu", vae=Vae()), torch.zeros(1, 3, 2, 2))
    assert float(latents) == wanted


def test_a_batch_joins_what_each_prompt_is_encoded_to() -> None:
    prompts = [{"tokens": torch.full((1, 2, 3), n), "pooled": torch.full((1, 3), n)} for n in (4.0, 1.0)]
    batch = ODD.join(prompts)
    assert batch["tokens"].shape == (2, 2, 3) and batch["pooled"][:, 0].tolist() == [4.0, 1.0]


def test_negative_prompts_have_their_own_names() -> None:
    tokens = torch.zeros(1)
    assert ODD.negative({"prompt_embeds": tokens}) == {"negative_prompt_embeds": tokens}


def test_a_latent_pixels_side() -> None:
    assert latent_side({"block_out_channels": [1, 2, 3, 4]}) == 8


def test_a_family_may_know_a_pipeline_only_to_refuse_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(ODD), "refused", {"OddEditPipeline": "edits. Name an OddPipeline"})
    register(ODD)
    with pytest.raises(UnsupportedBackboneError, match=r"models/x holds a OddEditPipeline, which edits\. Name an Odd"):
        pipeline_family("OddEditPipeline", "models/x")


def test_a_family_is_one_for_all_checkpoints_unless_it_says_otherwise() -> None:
    assert ODD.variant({"is_distilled": True}) is ODD and ODD.refusal({}, {}, {}) is None
