"""What a ControlNet's folder says before anything is loaded from it. Starts without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pinco.errors import PincoError
from pinco.pipelines.folder import BackboneFolder
from pinco.weight_files import SAFE, refuse_pickles

CONFIG = "config.json"


class ControlNetError(PincoError, ValueError):
    """A ControlNet's folder that holds none, or one that cannot be used with the backbone."""

    code = "unsupported_controlnet"


class ControlNetFolder:
    """A folder that a ControlNet was saved to.

    Attributes:
        path: The folder.
        config: The ControlNet's configuration.
        shapes: Of its tensors, by name.
    """

    def __init__(self, path: str | Path, backbone: BackboneFolder) -> None:
        """Read the folder and compare it with a backbone.

        Args:
            path: The folder.
            backbone: What the ControlNet is for.

        Raises:
            ControlNetError: It holds no ControlNet, or one that was made for another backbone, or not for inpainting.
            PickledWeightsError: Its weights are a pickle.
        """
        self.path = Path(path)
        self.config = _config(self.path)
        refuse_pickles(self.path, "ControlNet")
        self.shapes = _shapes(self.path)
        family, kind = backbone.family, str(self.config.get("_class_name"))
        if family.controlnet is None:
            raise ControlNetError(
                f"a {backbone.pipeline} cannot be used with the ControlNet in {self.path}. {family.no_controlnet} "
                "Leave out --controlnet".replace("  ", " ")
            )
        if kind != family.controlnet:
            raise ControlNetError(
                f"{self.path} holds a {kind}, and the backbone in {backbone.path} takes a {family.controlnet}: name a "
                "ControlNet that was made for this backbone, or the backbone that it was made for"
            )
        try:
            refusal = family.controlnet_refusal(self.config, self.shapes, backbone.config("transformer"))
        except (KeyError, TypeError) as error:
            raise ControlNetError(
                f"{self.path / CONFIG} lacks {error}, or a value in it is of the wrong kind: fetch the ControlNet's "
                "folder again"
            ) from error
        if refusal is not None:
            raise ControlNetError(f"the {kind} in {self.path} {refusal}")


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ControlNetError(
            f"{folder} holds no ControlNet: {CONFIG} cannot be read ({error}). Name the folder that was written by "
            "save_pretrained or downloaded from the hub"
        ) from error
    if not isinstance(config, dict):
        raise ControlNetError(f"{path} must hold one JSON object: fetch the ControlNet's folder again")
    return config


def _shapes(folder: Path) -> Mapping[str, tuple[int, ...]]:
    """From the headers of all safetensors: 8 bytes of length, and JSON."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob(f"*{SAFE}")):
        try:
            with file.open("rb") as opened:
                header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
            tensors = {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, MemoryError, OverflowError) as error:
            raise ControlNetError(f"{file} is damaged ({error}): fetch the ControlNet's folder again") from error
        shapes |= tensors
    if not shapes:
        raise ControlNetError(f"{folder} has no weights in {SAFE}: fetch the ControlNet's folder again")
    return shapes
