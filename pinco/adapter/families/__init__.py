"""One file per backbone family: how the adapter reads that family's layers and enters its attention."""

from __future__ import annotations

from typing import Any

from pinco.adapter.families.base import Family
from pinco.adapter.families.flux import FluxFamily

FAMILIES: dict[str, Family] = {family.name: family for family in (FluxFamily(),)}


def family_of(transformer: Any) -> Family:
    """The family of a diffusers transformer. Raises `TypeError` naming the families that there are."""
    for family in FAMILIES.values():
        if family.owns(transformer):
            return family
    known = ", ".join(sorted(FAMILIES))
    raise TypeError(f"no Pinco adapter for a {type(transformer).__name__}; known backbone families: {known}")


__all__ = ["FAMILIES", "Family", "family_of"]
