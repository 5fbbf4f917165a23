from __future__ import annotations

from typing import Any

import pytest

from pinco.adapter.families import FAMILIES, family_of
from pinco.adapter.families.base import Family


def test_a_flux_transformer_is_of_the_flux_family(transformer: Any) -> None:
    assert family_of(transformer) is FAMILIES["flux"]


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(TypeError, match="no Pinco adapter for a object; known backbone families: flux"):
        family_of(object())


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_family_has_everything_that_the_adapter_asks_for(name: str) -> None:
    wanted = {member for member in vars(Family) if not member.startswith("_")}
    assert wanted <= set(dir(FAMILIES[name])) and FAMILIES[name].name == name
