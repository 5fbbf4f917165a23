"""A backbone's usual generation settings: its own `pinco.json`, else its family's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from pinco.pipelines.request import GenerationRequest

DEFAULTS_FILE = "pinco.json"


@dataclass(frozen=True)
class GenerationDefaults:
    """Settings that a request takes where nothing else is said.

    steps, guidance, true_cfg, blending: see `GenerationRequest`.
    max_sequence_length: tokens of the prompt that the T5 encoder reads.
    working_pixels: area that the backbone was trained at; the working size is chosen near it.
    segmenter: folder of the product segmenter that belongs to the backbone, relative to it, if there is one.
    """

    steps: int
    guidance: float
    true_cfg: float
    max_sequence_length: int
    working_pixels: int
    blending: bool = False
    segmenter: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_sequence_length <= 512:
            raise ValueError(f"max_sequence_length must lie between 1 and 512, not {self.max_sequence_length}")
        if self.working_pixels < 1:
            raise ValueError(f"working_pixels must be positive, not {self.working_pixels}")
        self.request("", seed=0)  # the rest has the limits of a request

    @classmethod
    def read(cls, folder: str | Path, family: Self) -> Self:
        """The family's defaults, overridden by the folder's `pinco.json` if there is one.

        Raises `ValueError` naming the file and the entry that is unknown or of the wrong kind.
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

    def request(
        self,
        prompt: str,
        *,
        seed: int,
        negative: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        true_cfg: float | None = None,
        blending: bool | None = None,
    ) -> GenerationRequest:
        """A request with these settings where none is given."""
        return GenerationRequest(
            prompt=prompt,
            negative=negative,
            seed=seed,
            steps=self.steps if steps is None else steps,
            guidance=self.guidance if guidance is None else guidance,
            true_cfg=self.true_cfg if true_cfg is None else true_cfg,
            blending=self.blending if blending is None else blending,
        )


_KINDS: dict[str, tuple[type, ...]] = {
    "steps": (int,),
    "guidance": (int, float),
    "true_cfg": (int, float),
    "max_sequence_length": (int,),
    "working_pixels": (int,),
    "blending": (bool,),
    "segmenter": (str, type(None)),
}


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
