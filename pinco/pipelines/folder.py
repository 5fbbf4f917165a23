"""What a backbone's folder says before anything is loaded from it. Starts without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pinco.errors import PincoError
from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.execution import Capabilities, Choice, Execution
from pinco.pipelines.families import (
    PipelineFamily,
    UnknownPipelineError,
    UnsupportedBackboneError,
    pipeline_family,
)
from pinco.weight_files import loaded_variant, refuse_pickles

INDEX = "model_index.json"


class RemoteCodeError(PincoError, ValueError):
    """A backbone that brings program code of its own, which is never run."""

    code = "remote_code"


_REFUSED = (
    "{what} is a {code}: program code that comes with the weights, which is never run. Name a backbone whose classes "
    "are those of diffusers and transformers"
)


class BackboneFolder:
    """A folder that a diffusers pipeline was saved to.

    Attributes:
        path: The folder.
        pipeline: Name of its pipeline's class.
        family: Of its pipeline.
        parts: Names of its components, each of which has a folder.
    """

    def __init__(self, path: str | Path) -> None:
        """Read the folder's index.

        Raises:
            UnknownPipelineError: It holds no diffusers pipeline, or one of no known family, or a file cannot be read.
            UnsupportedBackboneError: A checkpoint of a known family that Pinco cannot run.
            PickledWeightsError: The weights of a component are a pickle; the message names it.
            RemoteCodeError: A component's class is in a file of the folder.
        """
        self.path = Path(path)
        if not (self.path / INDEX).is_file():
            below = sorted(str(index.parent) for depth in ("*", "*/*") for index in self.path.glob(f"{depth}/{INDEX}"))
            way_out = "the folder that was written by save_pretrained or downloaded from the hub"
            raise UnknownPipelineError(
                f"{self.path} holds no diffusers pipeline: there is no {INDEX}. Name {' or '.join(below) or way_out}"
            )
        index = self._index = self._read(INDEX)
        _refuse_code(index, self.path)
        self.pipeline = str(index.get("_class_name"))
        self.family: PipelineFamily = pipeline_family(self.pipeline, self.path).variant(index)
        refusal = self.family.refusal(index, self.config("transformer"), self.config("vae"))
        if refusal is not None:
            raise UnsupportedBackboneError(f"the {self.pipeline} in {self.path} {refusal}")
        self.parts = components(index)
        for part in self.parts:
            refuse_pickles(self.path / part, f"backbone's {part}")

    @property
    def defaults(self) -> GenerationDefaults:
        """The backbone's own settings, else its family's.

        Raises:
            ValueError: A `pinco.json` that cannot be read.
        """
        return GenerationDefaults.read(self.path, self.family.usual(self.config("transformer")))

    @property
    def variant(self) -> str | None:
        """The variant whose weights are loaded ("fp16"), where a component has none without.

        Raises:
            UnsupportedBackboneError: Components have different variants only.
        """
        found = {part: loaded_variant(file.name for file in (self.path / part).glob("*")) for part in self.parts}
        named = {part: variant for part, variant in found.items() if variant}
        if len(set(named.values())) > 1:
            listed = ", ".join(f"{part} only as {variant}" for part, variant in named.items())
            raise UnsupportedBackboneError(
                f"{self.path} has {listed}: fetch the files without a variant, or all of one variant"
            )
        return next(iter(named.values()), None)

    def choose(self, choice: Choice, *, accelerator: bool) -> Execution:
        """How this backbone computes by what the settings say.

        Raises:
            ExecutionError: They ask for something that the family does not have.
        """
        family = self.family
        there = Capabilities(family.caches, bool(family.repeated_blocks), accelerator, family.single_layers)
        return choice.execution(there)

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


def components(index: Mapping[str, Any]) -> list[str]:
    """Names of the components that a `model_index.json` lists and that are there."""
    return [name for name, source in index.items() if not name.startswith("_") and _is_there(source)]


def _is_there(source: Any) -> bool:
    return isinstance(source, list | tuple) and len(source) == 2 and None not in source


def _refuse_code(index: Mapping[str, Any], folder: Path) -> None:
    """diffusers looks for a class in a file of that name beside the weights before it looks into the library."""
    own = index.get("_class_name")
    if isinstance(own, list | tuple):
        raise RemoteCodeError(_REFUSED.format(what=f"the pipeline in {folder}", code=" of ".join(map(str, own[::-1]))))
    for name in components(index):
        library, kind = (str(part) for part in index[name])
        if (folder / name / f"{library}.py").is_file():
            what = f"the {name} in {folder}"
            raise RemoteCodeError(_REFUSED.format(what=what, code=f"{kind} of {name}/{library}.py"))
