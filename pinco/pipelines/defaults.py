"""A backbone's usual generation settings: its own `pinco.json`, else its family's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

from pinco.knobs import Knobs, knobs_of
from pinco.pipelines.request import GenerationRequest

DEFAULTS_FILE = "pinco.json"


@dataclass(frozen=True, kw_only=True)
class GenerationDefaults(Knobs):
    """The knobs that a request takes where nothing else is said, and what else a backbone wants.

    Attributes:
        max_sequence_length: Tokens of the prompt that the text encoder reads.
        working_pixels: Area that the backbone was trained at; the working size is chosen near it.
        segmenter: Folder of the product segmenter that belongs to the backbone, relative to it, if there is one.
    """

    max_sequence_length: int
    working_pixels: int
    segmenter: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_sequence_length <= 512:
            raise ValueError(f"max_sequence_length must lie between 1 and 512, not {self.max_sequence_length}")
        if self.working_pixels < 1:
            raise ValueError(f"working_pixels must be positive, not {self.working_pixels}")
        super().__post_init__()

    @classmethod
    def read(cls, folder: str | Path, family: Self) -> Self:
        """The family's defaults, overridden by the folder's `pinco.json` if there is one.

        Raises:
            ValueError: An entry is unknown or of the wrong kind; the message names file and entry.
        """
        path = Path(folder) / DEFAULTS_FILE
        if not path.is_file():
            return family
        try:
            return replace(family, **_checked(json.loads(path.read_text(encoding="utf-8"))))
        except (TypeError, ValueError) as problem:
            raise ValueError(f"{path}: {problem}") from problem

    def write(self, folder: str | Path) -> Path:
        """Put the settings beside a backbone as its `pinco.json`."""
        path = Path(folder) / DEFAULTS_FILE
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return path

    def request(self, prompt: str, *, seed: int, negative: str | None = None, **given: Any) -> GenerationRequest:
        """A request with these knobs, except where one is given by name and not None.

        Raises:
            TypeError: A name is no knob, or a value is of the wrong type.
            ValueError: A value is out of its range.
        """
        knobs = Knobs(**knobs_of(self)).changed(**given)
        return GenerationRequest(prompt=prompt, negative=negative, seed=seed, **knobs_of(knobs))


def _kinds() -> dict[str, tuple[type, ...]]:
    """The JSON types that each entry of a `pinco.json` may have."""
    kinds: dict[str, tuple[type, ...]] = {}
    for name, kind in get_type_hints(GenerationDefaults).items():
        options = get_args(kind) or (kind,)
        kinds[name] = (int, float) if float in options else options
    return kinds


_KINDS = _kinds()


def _checked(values: Any) -> Mapping[str, Any]:
    if not isinstance(values, dict):
        raise ValueError("must hold one JSON object")
    for name, value in values.items():
        kinds = _KINDS.get(name)
        if kinds is None:
            raise ValueError(f"unknown entry {name!r}; known: {', '.join(_KINDS)}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise ValueError(f"{name} must be {wanted}, not {value!r}")
    return values
