"""What an adapter does without a call of its backbone; the rest is in `suite`, for every family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from pinco.adapter import PincoAdapter
from pinco.adapter.families import UnknownFamilyError
from pinco.adapter.positions import Rotary
from pinco.generation.builtin import ADAPTER, assets
from tests.pinco.adapter.suite import SMALL

MakeAdapter = Callable[..., PincoAdapter]


@pytest.mark.parametrize("scale", [-0.01, 1.01, float("nan"), float("inf")])
def test_scale_is_bounded(make_adapter: MakeAdapter, scale: float) -> None:
    adapter = make_adapter()
    with pytest.raises(ValueError, match="scale must lie between 0 and 1"):
        adapter.scale = scale
    assert adapter.scale == 1.0 and not adapter.disabled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subject_dim": 24}, "needs tokens as wide as the backbone"),
        ({"init_semantic": "clip"}, "init_semantic must be backbone or random"),
    ],
)
def test_bad_options_are_refused(make_adapter: MakeAdapter, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_adapter(**options)


def test_narrow_subject_tokens_work_with_a_random_start(
    make_adapter: MakeAdapter,
    transformer: FluxTransformer2DModel,
    inputs: dict[str, Any],
    subject_inputs: tuple[Tensor, Tensor],
) -> None:
    adapter = make_adapter(subject_dim=12, init_semantic="random").attach(transformer)
    subject = adapter.encode(*subject_inputs)
    assert subject.tokens.shape[-1] == 12 and subject.grid == SMALL
    with adapter.using(subject) as kwargs:
        transformer(**inputs, **kwargs)


@pytest.mark.parametrize(
    ("latents", "maps", "message"),
    [
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 64, 64), r"latents must be \[B, 16, h, w\]"),
        (torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 64, 32), r"maps must be \(1, 3, 64, 64\)"),
        (torch.zeros(2, 16, 8, 8), torch.zeros(1, 3, 64, 64), r"maps must be \(2, 3, 64, 64\)"),
        (torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "floating point"),
        (torch.zeros(1, 16, 8, 7), torch.zeros(1, 3, 64, 56), "7 x 8 does not divide into patches of 2"),
        (torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 64, 64), "covers no token"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    make_adapter: MakeAdapter, latents: Tensor, maps: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_adapter().encode(latents, maps)


def test_an_unknown_family_is_refused(make_adapter: MakeAdapter) -> None:
    config = dict(make_adapter().config) | {"family": "sd9"}
    with pytest.raises(UnknownFamilyError, match="unknown backbone family 'sd9'"):
        PincoAdapter.from_config(config)


def test_an_adapter_saved_by_an_older_version_loads(make_adapter: MakeAdapter, tmp_path: Path) -> None:
    adapter = make_adapter()
    adapter.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("depth") == 4 and config.pop("key_norm") == "rms"
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_layers": 1, "num_single_layers": 3}))
    loaded = PincoAdapter.from_pretrained(tmp_path)
    assert loaded.settings == adapter.settings
    assert all(torch.equal(p, q) for p, q in zip(loaded.parameters(), adapter.parameters(), strict=True))


def test_the_shipped_adapter_is_of_an_older_version() -> None:
    config = json.loads((assets() / ADAPTER / "config.json").read_text())
    assert "depth" not in config  # it never changes: its hash is a part of generation ids
    assert PincoAdapter.from_pretrained(assets() / ADAPTER).settings.depth == 7


def test_attentions_and_positions_are_the_backbones(
    make_adapter: MakeAdapter, transformer: FluxTransformer2DModel
) -> None:
    adapter = make_adapter(layers=[1, 3])
    for ask in (adapter.attentions, lambda: adapter.positions(SMALL, "cpu")):
        with pytest.raises(RuntimeError, match="attach the adapter to its backbone before asking"):
            ask()
    adapter.attach(transformer)
    assert list(adapter.attentions()) == [1, 3]
    assert adapter.positions(SMALL, "cpu") is adapter.positions(SMALL, "cpu")
    upright, lying = (adapter.positions(grid, "cpu") for grid in (SMALL, SMALL[::-1]))
    assert isinstance(upright, Rotary) and isinstance(lying, Rotary)
    assert upright.cos.shape == lying.cos.shape and not torch.equal(upright.cos, lying.cos)
