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
        pipeline: Name of its pipeline's class.
        family: Of its pipeline.
        transformer: Configuration of its transformer.
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
        index = self._read(INDEX)
        self.pipeline = str(index.get("_class_name"))
        self.family: PipelineFamily = pipeline_family(self.pipeline, self.path).variant(index)
        self.transformer = self._read("transformer/config.json")
        refusal = self.family.refusal(index, self.transformer, self._read("vae/config.json"))
        if refusal is not None:
            raise UnsupportedBackboneError(f"the {self.pipeline} in {self.path} {refusal}")
        for part in index:
            if not part.startswith("_"):
                refuse_pickles(self.path / part, f"backbone's {part}")

    @property
    def defaults(self) -> GenerationDefaults:
        """The backbone's own settings, else its family's.

        Raises:
            ValueError: A `pinco.json` that cannot be read.
        """
        return GenerationDefaults.read(self.path, self.family.usual(self.transformer))

    @property
    def size_multiple(self) -> int:
        """What both sides of an image must be a multiple of, in pixels."""
        return self.family.size_multiple(self.transformer, self._read("vae/config.json"))

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnknownPipelineError(f"{path} cannot be read ({error}): fetch the backbone's folder again") from error
        if not isinstance(values, dict):
            raise UnknownPipelineError(f"{path} must hold one JSON object: fetch the backbone's folder again")
        return values
