from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from diffusers.models.normalization import RMSNorm
from torch import nn

from pinco.adapter import families as package
from pinco.adapter.families import UnknownFamilyError, families, family_named, family_of, register
from pinco.adapter.families.base import Family, key_norm_kind, vae_scale
from tests.pinco.adapter.odd_family import FAMILY as ODD


def test_every_module_of_the_folder_is_a_family_that_is_found() -> None:
    modules = [m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base"]
    assert modules
    for name in modules:
        family = importlib.import_module(f"pinco.adapter.families.{name}").FAMILY
        assert isinstance(family, Family) and family in families() and family_named(family.name) is family


def test_a_transformer_finds_its_family(transformer: Any) -> None:
    assert family_of(transformer).owns(transformer)


def test_a_family_from_elsewhere_is_known_once_it_is_registered() -> None:
    assert register(ODD) is ODD and family_named(ODD.name) is ODD
    assert families() == sorted(families(), key=lambda family: family.name)


def test_what_is_unknown_is_refused_naming_what_is_known() -> None:
    names = ", ".join(family.name for family in families())
    with pytest.raises(UnknownFamilyError, match=f"no Pinco adapter for a object; known backbone families: {names}"):
        family_of(object())
    with pytest.raises(UnknownFamilyError, match=f"unknown backbone family 'sd9'; known: {names}"):
        family_named("sd9")


@pytest.mark.parametrize(
    ("norm", "kind"),
    [(None, "none"), (nn.RMSNorm(4), "rms"), (RMSNorm(4, 1e-6), "rms"), (nn.LayerNorm(4), "layer")],
)
def test_the_kind_of_a_key_norm(norm: Any, kind: str) -> None:
    assert key_norm_kind(norm) == kind


def test_a_key_norm_that_subject_keys_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="normalises its keys by GroupNorm"):
        key_norm_kind(nn.GroupNorm(1, 4))


def test_the_vaes_reduction_is_a_halving_per_block_but_one() -> None:
    assert vae_scale({"block_out_channels": (1, 2, 3, 4), "latent_channels": 16}, 16) == 8
    with pytest.raises(ValueError, match="VAE makes 4 latent channels, the transformer takes 16"):
        vae_scale({"block_out_channels": (1,), "latent_channels": 4}, 16)
