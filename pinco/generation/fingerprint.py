"""What a model is, as one hash: its configuration and its tensors, not its file layout.

Two folders have the same fingerprint if they hold the same values, however the tensors are ordered or sharded within a
component; the hash goes into the ids of the images that were made with the model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pinco.weight_files import PICKLES

VERSION = b"folder-fingerprint-1\n"

_NOTES = {".md", ".png", ".jpg", ".html", ".log", ".csv"}
_SETTINGS = {"pinco.json"}  # defaults for requests: they go into the ids as what they made of each request
_HERITAGE = {"_name_or_path", "_diffusers_version", "transformers_version"}  # who saved it, not what it is
_CHUNK = 1 << 20


def folder_sha256(path: str | Path, cache: Path | None = None) -> str:
    """Hex sha256 of a model folder, or of a single file.

    JSON counts by its values, safetensors by their sorted tensors, everything else (tokenizers) by its bytes. Model
    cards, pictures, hidden files, `pinco.json` and safetensors indices do not count.

    Args:
        path: The folder or file.
        cache: A JSON file that remembers hashes by path, size and modification time, so that gigabytes are read once; a
            damaged one is made again.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has no file that counts, or damaged files, or weights that are not safetensors (pickles are never
            loaded).
    """
    root = Path(path).resolve()
    if not root.exists():
        raise FileNotFoundError(f"no model at {root}")
    remembered = _Remembered(cache)
    digest = hashlib.sha256(VERSION)
    tensors: dict[str, list[tuple[str, str]]] = {}
    count = 0
    for file in _files(root):
        count += 1
        place = file.relative_to(root).as_posix() if root.is_dir() else file.name
        parts = remembered.parts(file)
        if file.suffix == ".safetensors":
            tensors.setdefault(str(Path(place).parent), []).extend(parts.items())
        else:
            digest.update(f"{place}\0{parts['']}\n".encode())
    if not count:
        raise ValueError(f"{root} holds no model: no configuration and no weights")
    for component in sorted(tensors):
        for name, value in sorted(tensors[component]):
            digest.update(f"{component}\0{name}\0{value}\n".encode())
    remembered.save()
    return digest.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for file in [root] if root.is_file() else sorted(root.rglob("*")):
        inner = file.relative_to(root.parent if root.is_file() else root)
        if not file.is_file() or any(part.startswith(".") for part in inner.parts):
            continue
        if file.suffix in _NOTES or file.name in _SETTINGS or file.name.endswith(".safetensors.index.json"):
            continue
        if file.suffix in PICKLES:
            raise ValueError(f"{file} may be a pickle; save the model as safetensors")
        yield file


class _Remembered:
    """Hashes of files by path, size and modification time."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._entries: dict[str, dict[str, Any]] = {}
        self._changed = False
        if cache is not None and cache.is_file():
            try:
                entries = json.loads(cache.read_text(encoding="utf-8"))
                self._entries = entries if isinstance(entries, dict) else {}
            except ValueError:
                self._entries = {}

    def parts(self, file: Path) -> dict[str, str]:
        """Tensor name to hash for safetensors, else one hash under the empty name."""
        stat = file.stat()
        key = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        entry = self._entries.get(str(file))
        if isinstance(entry, dict) and isinstance(entry.get("parts"), dict) and key.items() <= entry.items():
            return dict(entry["parts"])
        parts = _tensor_hashes(file) if file.suffix == ".safetensors" else {"": _file_hash(file)}
        self._entries[str(file)] = {**key, "parts": parts}
        self._changed = True
        return parts

    def save(self) -> None:
        """Replace the cache file at once, so that another process never reads half of it.

        A place that cannot be written to costs time at the next start, and nothing else.
        """
        if self._cache is None or not self._changed:
            return
        with contextlib.suppress(OSError):
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._cache.parent, prefix=f".{self._cache.name}")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(self._entries, stream, sort_keys=True)
            os.replace(temporary, self._cache)


def _file_hash(file: Path) -> str:
    if file.suffix == ".json":
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as problem:
            raise ValueError(f"{file} is no valid JSON: {problem}") from problem
        if isinstance(values, dict):
            values = {name: value for name, value in values.items() if name not in _HERITAGE}
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _tensor_hashes(file: Path) -> dict[str, str]:
    """Per tensor the hash of dtype, shape and bytes, read straight from the file in pieces.

    The layout is the format's own: 8 bytes little-endian length of a JSON header with `dtype`, `shape` and
    `data_offsets` per tensor, then the data.
    """
    hashes = {}
    with file.open("rb") as stream:
        size = file.stat().st_size
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(min(length, size)))
        except ValueError as problem:
            raise ValueError(f"{file} is no valid safetensors file") from problem
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if size != 8 + length + end:
            raise ValueError(f"{file} is damaged: {size} bytes, its header promises {8 + length + end}")
        for name, entry in header.items():
            digest = hashlib.sha256(f"{entry['dtype']}{entry['shape']}".encode())
            start, end = entry["data_offsets"]
            stream.seek(8 + length + start)
            for offset in range(start, end, _CHUNK):
                digest.update(stream.read(min(_CHUNK, end - offset)))
            hashes[name] = digest.hexdigest()
    return hashes
