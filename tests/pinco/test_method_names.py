from __future__ import annotations

from typing import get_args

from pinco.method_names import BARE, METHODS, MethodName


def test_the_names_are_those_of_every_recipe_there_is() -> None:
    """Changing one would make recipes unreadable."""
    assert METHODS == get_args(MethodName) == ("pinco", "blend", "fill", "controlnet")
    assert BARE == "bare"
