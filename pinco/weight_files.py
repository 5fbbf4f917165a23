"""Weights are read from safetensors alone: opening a pickle can run code that somebody put there. Needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pinco.errors import PincoError

PICKLES = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})
"""Suffixes of files that may be pickles."""

SAFE = ".safetensors"

_NAME = re.compile(r"(?P<base>[^.]+?)(-\d+-of-\d+)?(\.(?P<variant>\w+))?(-\d+-of-\d+)?\.safetensors")


class PickledWeightsError(PincoError, ValueError):
    """Weights that are stored as a pickle. They have not been opened."""

    code = "pickled_weights"


def refuse_pickles(folder: str | Path, what: str) -> None:
    """Check that a folder's weights can be loaded without opening a pickle; no file of weights is opened for that.

    Args:
        folder: One model's. What is no folder (a hub id) passes: there `use_safetensors=True` decides.
        what: Names the model in the message.

    Raises:
        PickledWeightsError: There are pickles and no safetensors, or an index of safetensors that names other files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return
    files = sorted(file for file in folder.iterdir() if file.is_file())
    found = [file.name for file in files if file.suffix in PICKLES]
    if any(file.suffix == SAFE for file in files):
        found = []
    for file in files:
        if file.name.endswith(f"{SAFE}.index.json"):
            found += [name for name in _shards(file) if not name.endswith(SAFE)]
    if found:
        raise PickledWeightsError(
            f"the {what} in {folder} has its weights in {found[0]}, which may be a pickle and was not opened. Fetch "
            f"the version with {SAFE} files; or, if you trust the file, load it once with diffusers or transformers "
            "and write it with save_pretrained(folder, safe_serialization=True)"
        )


def _shards(index: Path) -> list[str]:
    """The files that an index names; none where it cannot be read, which is then the loader's to say."""
    try:
        return sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def variant_of(file: str) -> str | None:
    """The variant that a file of weights is named after, as in `model.fp16.safetensors`; None where it has none."""
    match = _NAME.fullmatch(file)
    return match["variant"] if match else None


def files_of_weights(folder: str | Path) -> list[Path]:
    """The safetensors files of one model that are loaded, sorted by name.

    Several number formats may lie side by side: those without a variant go first, else those of the first one.
    """
    files = sorted(file for file in Path(folder).glob(f"*{SAFE}") if file.is_file())
    variant = loaded_variant(file.name for file in files)
    return [file for file in files if variant_of(file.name) == variant]


def loaded_variant(files: Iterable[str]) -> str | None:
    """Which variant of one model is loaded.

    Args:
        files: Names of its files.
    """
    variants = {variant_of(name) for name in files if name.endswith(SAFE)}
    return None if None in variants or not variants else min(variant for variant in variants if variant)


class SafetensorsOnly:
    """First base of a diffusers model: `from_pretrained` reads safetensors, whatever else lies in the folder."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **options: Any) -> Any:
        """As diffusers' own.

        Args:
            pretrained_model_name_or_path: A folder or a hub id.
            options: As diffusers takes them, without `use_safetensors`.

        Raises:
            PickledWeightsError: The folder's weights are pickles.
        """
        refuse_pickles(pretrained_model_name_or_path, cls.__name__)
        options["use_safetensors"] = True
        return super().from_pretrained(pretrained_model_name_or_path, **options)  # type: ignore[misc]
