"""The methods, one module each: by what a generated image comes to match its product. Starts without torch."""

from __future__ import annotations

from pinco.pipelines.methods.bare import Bare
from pinco.pipelines.methods.base import Method
from pinco.pipelines.methods.blend import Blend
from pinco.pipelines.methods.controlnet import ControlNet
from pinco.pipelines.methods.fill import Fill
from pinco.pipelines.methods.pinco import Pinco

_METHODS: dict[str, Method] = {method.name: method for method in (Pinco(), Blend(), Fill(), ControlNet(), Bare())}


def method_named(name: str) -> Method:
    """The method of that name (`pinco.method_names`).

    Raises:
        ValueError: There is none.
    """
    if name not in _METHODS:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(_METHODS)}")
    return _METHODS[name]


__all__ = ["Method", "method_named"]
