"""Which folders hold the weights. Knows paths only, so that planning can ask without torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pinco.errors import PincoError
from pinco.generation.builtin import ADAPTER, BACKBONE, NAME, SEGMENTER, assets
from pinco.generation.hub import download
from pinco.generation.settings import ModelSettings
from pinco.pipelines.folder import INDEX, BackboneFolder
from pinco.weight_files import refuse_pickles

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_CONFIG = "config.json"


class MissingWeightsError(PincoError, FileNotFoundError):
    """Weights that are not where the settings say."""

    code = "missing_weights"


@dataclass(frozen=True)
class Weights:
    """Folders of a model.

    Attributes:
        name: Goes into the manifest.
        backbone: Of the diffusers pipeline.
        adapter: For the method pinco, if there is one.
        segmenter: None = the backbone's own, if it names one.
        controlnet: For the method controlnet, if there is one.
    """

    name: str
    backbone: str
    adapter: str | None
    segmenter: str | None
    controlnet: str | None = None


def find_weights(settings: ModelSettings) -> Weights:
    """The folders that the settings mean: those named, or the built-in toy with everything that belongs to it.

    A folder with a `backbone/` inside, as `pinco toy train` writes it, stands for a whole model: its backbone, and its
    `adapter/` where the settings name no other.

    Raises:
        MissingWeightsError: A folder is not there; the message says what to do.
        PickledWeightsError: The adapter's, the segmenter's or the ControlNet's weights are a pickle.
    """
    named_adapter = _named_adapter(settings)
    segmenter = None
    if settings.segmenter:
        segmenter = _folder(settings.segmenter, "segmenter", "leave out model.segmenter for the backbone's own")
        refuse_pickles(segmenter, "segmenter")
    controlnet = None
    if settings.controlnet:
        controlnet = _folder(settings.controlnet, "ControlNet", "leave out --controlnet")
        refuse_pickles(controlnet, "ControlNet")
    if settings.backbone is None:
        toy = Path(assets())
        if not (toy / BACKBONE).is_dir():
            raise MissingWeightsError(
                f"the built-in model is not at {toy}: make it with `pinco toy train`, or name another with --backbone"
            )
        adapter = named_adapter or str(toy / ADAPTER)
        return Weights(NAME, str(toy / BACKBONE), adapter, segmenter or str(toy / SEGMENTER), controlnet)
    folder = _folder(settings.backbone, "backbone", "leave out --backbone for the built-in model")
    backbone = _inner(folder, BACKBONE, INDEX)
    if backbone != folder and named_adapter is None and (Path(folder) / ADAPTER / _CONFIG).is_file():
        named_adapter = str(Path(folder) / ADAPTER)
        refuse_pickles(named_adapter, "adapter")
    return Weights(settings.backbone, backbone, named_adapter, segmenter, controlnet)


def _named_adapter(settings: ModelSettings) -> str | None:
    if settings.adapter is None:
        return None
    without = "the built-in one" if settings.backbone is None else "another method"
    folder = _folder(settings.adapter, "adapter", f"leave out --adapter for {without}")
    adapter = _inner(folder, ADAPTER, _CONFIG)
    refuse_pickles(adapter, "adapter")
    return adapter


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
        MissingWeightsError: Weights are not where the settings say.
        UnknownPipelineError: The backbone's folder holds something that Pinco cannot run.
        PickledWeightsError: Weights are stored as a pickle.
        RemoteCodeError: The backbone comes with program code of its own.
        ExecutionError: The backbone cannot compute as the settings say.
    """
    weights = find_weights(settings)
    backbone = BackboneFolder(weights.backbone)
    backbone.choose(settings.choice, accelerator=settings.device == "cuda")
    own = backbone.defaults.segmenter
    if weights.segmenter is None and own is not None and not (place := Path(weights.backbone, own)).is_dir():
        raise MissingWeightsError(
            f"the backbone at {weights.backbone} measures its images with a segmenter, which is not at "
            f"{os.path.normpath(place)}: copy it from where the backbone came from, or name another in model.segmenter"
        )
    return CanvasSize(settings.working_pixels or backbone.defaults.working_pixels, backbone.size_multiple)


def cache_folder() -> Path:
    """Pinco's own folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pinco"


def fingerprint_cache() -> Path:
    """Where hashes of weights are remembered by path, size and modification time."""
    return cache_folder() / "fingerprints.json"


def _inner(folder: str, name: str, mark: str) -> str:
    """The folder called `name` in a whole model's folder, else the folder itself; `mark` is the file that tells."""
    inner = Path(folder) / name
    return str(inner) if not (Path(folder) / mark).is_file() and (inner / mark).is_file() else folder


def _folder(path: str, what: str, way_out: str) -> str:
    """The folder itself, or the local copy of a hub id (`owner/name`), which is downloaded unless the hub is off."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return str(folder.resolve())
    tried = ""
    if not _looks_like_a_path(path):
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            return download(path)
        except GatedRepoError as error:
            raise MissingWeightsError(
                f"the {what} {path} is on the hub, for people who have accepted its licence there: accept it, log in "
                f"with `hf auth login`, and start again; or {way_out}"
            ) from error
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            tried = f", neither as a folder nor on the hub or in its cache ({type(error).__name__})"
    place = "" if folder.is_absolute() else f" (seen from {Path.cwd()})"
    raise MissingWeightsError(
        f"there is no {what} at {path}{place}{tried}: name a folder that diffusers' from_pretrained can read, "
        f"or {way_out}"
    )


def _looks_like_a_path(path: str) -> bool:
    """Whether it can be no hub id, or more probably means a folder: the first part of it is one."""
    return _HUB_ID.match(path) is None or Path(path.split("/")[0]).is_dir()
