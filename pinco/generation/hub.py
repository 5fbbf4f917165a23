"""Weights from the hub: of a repository only the files that are loaded, into the hub's own cache."""

from __future__ import annotations

import glob
import json
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from pinco.pipelines.defaults import DEFAULTS_FILE
from pinco.pipelines.folder import INDEX, components
from pinco.weight_files import PICKLES, SAFE, PickledWeightsError, loaded_variant, variant_of

_TEXTS = frozenset({".json", ".txt", ".model", ".jinja", ".spm", ".vocab", ".tiktoken"})
"""Suffixes of configurations and tokenizers."""

_MODEL = "config.json"


def download(name: str) -> str:
    """The local copy of a repository's pipeline, or of its single model; only what is missing is fetched.

    Without a connection it is the copy that was fetched last.

    Args:
        name: `owner/name`.

    Raises:
        PickledWeightsError: A component's weights are a pickle there; nothing was fetched.
        HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError: The hub does not have it, or does not
            answer and there is no copy.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        files = HfApi().list_repo_files(name)
    except HFValidationError:
        raise
    except Exception as error:  # no connection, offline mode, a server that is down, a name that it does not know
        try:
            return str(snapshot_download(name, local_files_only=True, allow_patterns=[INDEX, _MODEL]))
        except LocalEntryNotFoundError as missing:
            raise (error if isinstance(error, HfHubHTTPError) else missing) from error
    parts = None
    if INDEX in files:
        parts = components(json.loads(Path(hf_hub_download(name, INDEX)).read_text(encoding="utf-8")))
    return str(snapshot_download(name, allow_patterns=[glob.escape(file) for file in wanted(files, parts, name)]))


def wanted(files: Iterable[str], parts: Collection[str] | None, name: str) -> list[str]:
    """Which files of a repository are loaded.

    Args:
        files: All of them, as paths.
        parts: Components of its pipeline; None where the repository is no pipeline: then all of its folders count.
        name: Of the repository, for the message.

    Raises:
        PickledWeightsError: A folder that counts has pickles and no safetensors.
    """
    folders: dict[str, list[str]] = {}
    for file in files:
        folder, _, own = file.rpartition("/")
        folders.setdefault(folder, []).append(own)
    chosen = [] if parts is None else [file for file in folders.pop("", []) if file in (INDEX, DEFAULTS_FILE)]
    for folder, inside in sorted(folders.items()):
        if parts is not None and folder.partition("/")[0] not in parts:
            continue
        _refuse_pickles(inside, f"{name}/{folder}".rstrip("/"))
        variant = loaded_variant(inside)
        chosen += [f"{folder}/{own}".lstrip("/") for own in inside if _is_loaded(own, variant)]
    return chosen


def _is_loaded(file: str, variant: str | None) -> bool:
    if file.endswith(SAFE):
        return variant_of(file) == variant
    return PurePosixPath(file).suffix in _TEXTS


def _refuse_pickles(inside: Collection[str], where: str) -> None:
    found = sorted(file for file in inside if PurePosixPath(file).suffix in PICKLES)
    if found and not any(file.endswith(SAFE) for file in inside):
        raise PickledWeightsError(
            f"{where} has its weights in {found[0]} alone, which may be a pickle and was not fetched: name a "
            f"repository with {SAFE} files"
        )
