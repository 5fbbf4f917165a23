"""Which folders hold the weights. Knows paths only, so that planning can ask without torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pinco.generation.builtin import ADAPTER, BACKBONE, NAME, SEGMENTER, assets
from pinco.generation.settings import ModelSettings
from pinco.pipelines.folder import BackboneFolder

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


@dataclass(frozen=True)
class Weights:
    """Folders of a model.

    Attributes:
        name: Goes into the manifest.
        backbone: Of the diffusers pipeline.
        adapter: None = the bare backbone.
        segmenter: None = the backbone's own, if it names one.
    """

    name: str
    backbone: str
    adapter: str | None
    segmenter: str | None


def find_weights(settings: ModelSettings) -> Weights:
    """The folders that the settings mean: those named, or the built-in toy with everything that belongs to it.

    Raises:
        FileNotFoundError: A folder is not there; the message says the way out.
    """
    if settings.backbone is None:
        toy = Path(assets())
        if not (toy / BACKBONE).is_dir():
            raise FileNotFoundError(
                f"the built-in model is not at {toy}: make it with `pinco toy train`, or name another with --backbone"
            )
        adapter = _folder(settings.adapter, "adapter") if settings.adapter else str(toy / ADAPTER)
        return Weights(NAME, str(toy / BACKBONE), adapter, str(toy / SEGMENTER))
    return Weights(
        settings.backbone,
        _folder(settings.backbone, "backbone"),
        _folder(settings.adapter, "adapter") if settings.adapter else None,
        _folder(settings.segmenter, "segmenter") if settings.segmenter else None,
    )


@dataclass(frozen=True)
class CanvasSize:
    """What a backbone wants of the size of its images.

    Attributes:
        pixels: About how many.
        multiple: What both sides divide by.
    """

    pixels: int
    multiple: int


def canvas_size(settings: ModelSettings) -> CanvasSize:
    """The size that images are generated at: the settings' area, else the backbone's own.

    Raises:
        FileNotFoundError: The backbone is not there.
        UnknownPipelineError: Its folder holds something that Pinco cannot run.
    """
    backbone = BackboneFolder(find_weights(settings).backbone)
    return CanvasSize(settings.working_pixels or backbone.defaults.working_pixels, backbone.size_multiple)


def cache_folder() -> Path:
    """Pinco's own folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pinco"


def fingerprint_cache() -> Path:
    """Where hashes of weights are remembered by path, size and modification time."""
    return cache_folder() / "fingerprints.json"


def _folder(path: str, what: str) -> str:
    """The folder itself, or the local copy of a hub id (``owner/name``), which is downloaded unless the hub is off."""
    if Path(path).is_dir():
        return str(Path(path).resolve())
    if _HUB_ID.match(path):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            return str(snapshot_download(path))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise FileNotFoundError(
                f"there is no {what} at {path}, neither as a folder nor as a hub id ({type(error).__name__}): "
                f"name a folder that diffusers' from_pretrained can read, or leave out --{what} for the built-in one"
            ) from error
    raise FileNotFoundError(
        f"there is no {what} at {path}: name a folder that diffusers' from_pretrained can read, "
        f"or leave out --{what} for the built-in one"
    )
