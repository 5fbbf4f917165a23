"""What a backbone's folder says before anything is loaded from it. Starts without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families import (
    PipelineFamily,
    UnknownPipelineError,
    UnsupportedBackboneError,
    pipeline_family,
)
from pinco.weight_files import refuse_pickles

INDEX = "model_index.json"


class BackboneFolder:
    """A folder that a diffusers pipeline was saved to.

    Attributes:
        path: The folder.
        family: Of its pipeline.
    """

    def __init__(self, path: str | Path) -> None:
        """Read the folder's index.

        Raises:
            UnknownPipelineError: It holds no diffusers pipeline, or one of no known family, or a file cannot be read.
            UnsupportedBackboneError: A checkpoint of a known family that Pinco cannot run.
            PickledWeightsError: The weights of a component are a pickle; the message names it.
        """
        self.path = Path(path)
        if not (self.path / INDEX).is_file():
            below = sorted(str(index.parent) for depth in ("*", "*/*") for index in self.path.glob(f"{depth}/{INDEX}"))
            way_out = "the folder that was written by save_pretrained or downloaded from the hub"
            raise UnknownPipelineError(
                f"{self.path} holds no diffusers pipeline: there is no {INDEX}. Name {' or '.join(below) or way_out}"
            )
        index = self._index = self._read(INDEX)
        name = str(index.get("_class_name"))
        self.family: PipelineFamily = pipeline_family(name, self.path).variant(index)
        refusal = self.family.refusal(index, self.config("transformer"), self.config("vae"))
        if refusal is not None:
            raise UnsupportedBackboneError(f"the {name} in {self.path} {refusal}")
        for part in index:
            if not part.startswith("_"):
                refuse_pickles(self.path / part, f"backbone's {part}")

    @property
    def defaults(self) -> GenerationDefaults:
        """The backbone's own settings, else its family's.

        Raises:
            ValueError: A `pinco.json` that cannot be read.
        """
        return GenerationDefaults.read(self.path, self.family.usual(self.config("transformer")))

    @property
    def size_multiple(self) -> int:
        """What both sides of an image must be a multiple of, in pixels."""
        return self.family.size_multiple(self.config("transformer"), self.config("vae"))

    def part_class(self, part: str) -> tuple[str, str]:
        """Library and class of a part, as the folder's index names them.

        Raises:
            UnknownPipelineError: The index does not say.
        """
        named = self._index.get(part)
        if not isinstance(named, list) or len(named) != 2 or None in named:
            raise UnknownPipelineError(f"{self.path / INDEX} names no {part}: fetch the backbone's folder again")
        return str(named[0]), str(named[1])

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a part, "transformer" or "vae", as diffusers wrote it.

        Raises:
            UnknownPipelineError: It cannot be read.
        """
        return self._read(f"{part}/config.json")

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnknownPipelineError(f"{path} cannot be read ({error}): fetch the backbone's folder again") from error
        if not isinstance(values, dict):
            raise UnknownPipelineError(f"{path} must hold one JSON object: fetch the backbone's folder again")
        return values
