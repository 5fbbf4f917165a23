"""Weights are read from safetensors alone: opening a pickle can run code that somebody put there. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pinco.errors import PincoError

PICKLES = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})
"""Suffixes of files that may be pickles."""

SAFE = ".safetensors"


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
