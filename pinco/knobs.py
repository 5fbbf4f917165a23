"""The generation knobs: what a person may turn about how an image is generated. This is the one place that names them.

A knob is a field of `Knobs`. From here it is a setting (`model.<name>` in pinco.yaml), an entry of a backbone's
`pinco.json`, a part of every request and of the generation id, and replay restores it. What is left to do for a new one
is to use it, in the pipeline, and to describe it in the README's table of settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Self, get_type_hints

from pydantic import ConfigDict, Field, create_model


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """How one image is generated.

    Attributes:
        steps: Denoising steps.
        guidance: Guidance scale of a guidance-distilled backbone; ignored by others.
        true_cfg: Classifier-free guidance with a second, negative pass; 1 is off.
        blending: Replace the product's region by the noised product after every step (Blended Latent Diffusion, arXiv
            2206.02779), the baseline that the adapter is measured against.

    Raises:
        TypeError: The number of steps is no whole number.
        ValueError: A value is out of its range.
    """

    steps: Annotated[int, Field(ge=1)]
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    true_cfg: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    blending: bool = False

    def __post_init__(self) -> None:
        whole_number("steps", self.steps)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise ValueError(f"guidance must be 0 or more, not {self.guidance}")
        if not (math.isfinite(self.true_cfg) and self.true_cfg >= 1):
            raise ValueError(f"true_cfg must be 1 (off) or more, not {self.true_cfg}")

    def changed(self, **given: Any) -> Self:
        """The same with other values; a value of None was not given and changes nothing.

        Raises:
            TypeError: A name is unknown, or a value is of the wrong type.
            ValueError: A value is out of its range.
        """
        return replace(self, **{name: value for name, value in given.items() if value is not None})


KNOBS = tuple(field.name for field in fields(Knobs))
"""Names of all knobs."""


def knobs_of(owner: Any) -> dict[str, Any]:
    """The values of all knobs of an object that has them as attributes (a request, an identity, settings)."""
    return {name: getattr(owner, name) for name in KNOBS}


def knob_types() -> Mapping[str, Any]:
    """Name to type, with the limits as pydantic annotations."""
    hints = get_type_hints(Knobs, include_extras=True)
    return {name: hints[name] for name in KNOBS}


_OPTIONAL: dict[str, Any] = {name: (kind | None, None) for name, kind in knob_types().items()}

KnobOverrides = create_model("KnobOverrides", __config__=ConfigDict(extra="forbid", frozen=True), **_OPTIONAL)
"""All knobs as optional settings, checked against their limits; None = what the backbone's own defaults say."""


def whole_number(name: str, value: Any) -> None:
    """Check that a value is an int.

    Raises:
        TypeError: It is something else, or a bool.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
