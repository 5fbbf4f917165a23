"""Sizes of adapters, on the configurations of published backbones (`bench/configs`), on the meta device."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from pinco.adapter import PincoAdapter
from pinco.adapter.choice import adapter_config
from pinco.adapter.sizes import adapter_sizes

CONFIGS = Path(__file__).parents[3] / "bench" / "configs"
BILLIONS = {
    "flux.1-dev": 11.90,
    "flux.1-schnell": 11.89,
    "flux.2-dev": 32.22,
    "flux.2-klein-4b": 3.88,
    "hunyuan-dit-1.2": 1.50,
    "sd3-medium": 2.03,
    "sd3.5-large": 8.06,
    "sd3.5-medium": 2.24,
    "z-image-turbo": 6.15,
}
"""As published, rounded."""


def _transformer(name: str) -> tuple[Any, dict[str, Any]]:
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    with torch.device("meta"):
        return getattr(diffusers, config["transformer"]["_class_name"]).from_config(config["transformer"]), config


def test_every_configuration_is_checked() -> None:
    with_adapter = [path.stem for path in CONFIGS.glob("*.json") if json.loads(path.read_text()).get("adapter", True)]
    assert sorted(with_adapter) == sorted(BILLIONS)


@pytest.mark.parametrize("name", BILLIONS)
def test_the_default_adapter_of_a_published_backbone_is_a_small_part_of_it(name: str) -> None:
    transformer, config = _transformer(name)
    backbone = sum(parameter.numel() for parameter in transformer.parameters())
    assert backbone / 1e9 == pytest.approx(BILLIONS[name], abs=0.006)
    with torch.device("meta"):
        vae = getattr(diffusers, config["vae"]["_class_name"]).from_config(config["vae"])
        adapter = PincoAdapter(**adapter_config(transformer, vae.config))
    sizes = adapter_sizes(adapter)
    assert sizes.layers == adapter.settings.depth and adapter.settings.rank == 128
    assert sizes.parameters == sum(parameter.numel() for parameter in adapter.parameters())
    assert sizes.parameters < 0.05 * backbone
    adapter.attach(transformer).detach()  # these are the sizes that this backbone wants


def test_full_rank_on_flux_is_a_billion_parameters() -> None:
    transformer, _ = _transformer("flux.1-dev")
    with torch.device("meta"):
        full = adapter_sizes(PincoAdapter(**adapter_config(transformer, None, rank=None)))
        some = adapter_sizes(PincoAdapter(**adapter_config(transformer, None, layers="double", rank=64)))
    assert full.projections == pytest.approx(1.08e9, rel=0.005)
    assert (some.layers, some.projections) == (19, 19 * (2 * (2 * 64 * 3072 + 3072) + 128 + 24))


def test_the_cache_of_a_subject_is_as_large_as_it_says(
    make_adapter: Callable[..., PincoAdapter], transformer: Any, subject_inputs: tuple[Tensor, Tensor]
) -> None:
    """Against the tensors themselves, with gates that are open."""
    adapter = make_adapter(prune=False).attach(transformer)
    subject = adapter.encode(*subject_inputs, cache=True)
    assert subject.cache is not None
    held = sum(tensor.nbytes for pair in subject.cache.values() if pair for tensor in pair)
    assert held == subject.batch * adapter_sizes(adapter).cache_bytes(subject.latent_tokens, value_bytes=4)
