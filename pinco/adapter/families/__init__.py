"""One module per backbone family: how the adapter reads that family's layers and enters its attention.

Every module of this folder that defines `FAMILY` is found by itself; `register` adds one from elsewhere.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from diffusers.utils.torch_utils import unwrap_module

from pinco.adapter.families.base import Family
from pinco.errors import PincoError

_FAMILIES: dict[str, Family] = {}


class UnknownFamilyError(PincoError, TypeError, ValueError):
    """A transformer, or the name in an adapter's configuration, that belongs to no known backbone family."""

    code = "unknown_family"


def register(family: Family) -> Family:
    """Make a family known, in the place of an earlier one of its name; returns it."""
    _FAMILIES[family.name] = family
    return family


def family_of(transformer: Any) -> Family:
    """The family of a diffusers transformer, compiled or not.

    Raises:
        UnknownFamilyError: It is of none; the message names those that there are.
    """
    transformer = unwrap_module(transformer)
    for family in _FAMILIES.values():
        if family.owns(transformer):
            return family
    raise UnknownFamilyError(
        f"no Pinco adapter for a {type(transformer).__name__}; known backbone families: {_names()}"
    )


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        UnknownFamilyError: There is none; the message names those that there are.
    """
    if name not in _FAMILIES:
        raise UnknownFamilyError(
            f"unknown backbone family {name!r}; known: {_names()}. "
            "If a package of its own brings this family, import it first"
        )
    return _FAMILIES[name]


def families() -> list[Family]:
    """All known families, by name."""
    return [_FAMILIES[name] for name in sorted(_FAMILIES)]


def _names() -> str:
    return ", ".join(family.name for family in families())


for _module in pkgutil.iter_modules(__path__, __name__ + "."):
    _family = getattr(importlib.import_module(_module.name), "FAMILY", None)
    if _family is not None:
        register(_family)

__all__ = ["Family", "UnknownFamilyError", "families", "family_named", "family_of", "register"]
