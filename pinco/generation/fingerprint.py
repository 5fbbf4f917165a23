"""What a model is, as one hash: its configuration and its tensors, not its file layout.

Two folders have the same fingerprint if they hold the same values, however the tensors are ordered or sharded within a
component; the hash goes into the ids of the images that were made with the model.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pinco.weight_files import PICKLES, SAFE, files_of_weights

VERSION = b"folder-fingerprint-1\n"

_NOTES = {".md", ".png", ".jpg", ".html", ".log", ".csv"}
_SETTINGS = {"pinco.json"}  # defaults for requests: they go into the ids as what they made of each request
_HERITAGE = {"_name_or_path", "_diffusers_version", "transformers_version"}  # who saved it, not what it is
_CHUNK = 8 << 20
_THREADS = min(8, os.cpu_count() or 1)  # of one file; hashing and reading leave Python's lock
_PIPELINE = "model_index.json"


def folder_sha256(path: str | Path, cache: Path | None = None) -> str:
    """Hex sha256 of a model folder, or of a single file.

    JSON counts by its values, safetensors by their sorted tensors, everything else (tokenizers) by its bytes. Model
    cards, pictures, hidden files, `pinco.json`, safetensors indices and, beside a pipeline, weights that it does not
    load do not count.

    Args:
        path: The folder or file.
        cache: A JSON file that remembers hashes by path, size and modification time, so that gigabytes are read once. A
            damaged one is made again. Of processes that ask at once, one reads the weights and the others wait for it.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has no file that counts, or damaged files, or weights that are not safetensors (pickles are never
            loaded).
    """
    root = Path(path).resolve()
    if not root.exists():
        raise FileNotFoundError(f"no model at {root}")
    files = list(_files(root))
    hashes = _hashes(files, cache)
    digest = hashlib.sha256(VERSION)
    tensors: dict[str, list[tuple[str, str]]] = {}
    for file in files:
        place = file.relative_to(root).as_posix() if root.is_dir() else file.name
        parts = hashes[file]
        if file.suffix == SAFE:
            tensors.setdefault(str(Path(place).parent), []).extend(parts.items())
        else:
            digest.update(f"{place}\0{parts['']}\n".encode())
    if not files:
        raise ValueError(f"{root} holds no model: no configuration and no weights")
    for component in sorted(tensors):
        for name, value in sorted(tensors[component]):
            digest.update(f"{component}\0{name}\0{value}\n".encode())
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
        if file.suffix == SAFE and (root / _PIPELINE).is_file() and not _is_loaded(file, root):
            continue
        yield file


def _is_loaded(file: Path, root: Path) -> bool:
    """Whether a pipeline loads these weights: those of its components, and of several variants one."""
    return file.parent != root and file in files_of_weights(file.parent)


def _hashes(files: list[Path], cache: Path | None) -> dict[Path, dict[str, str]]:
    """Per file what `_Remembered.known` gives, computed where it is not remembered."""
    remembered = _Remembered(cache)
    if all(remembered.known(file) is not None for file in files):
        return {file: remembered.known(file) or {} for file in files}
    with _alone(cache):
        remembered.load()  # what another process has computed meanwhile
        return {file: remembered.parts(file) for file in files}


@contextlib.contextmanager
def _alone(cache: Path | None) -> Iterator[None]:
    """One process of this machine at a time; where the lock cannot be had (some network drives), without one."""
    with contextlib.ExitStack() as stack:
        if cache is not None:
            with contextlib.suppress(OSError):
                cache.parent.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(cache.with_name(f"{cache.name}.lock").open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed, or its process dies
        yield


class _Remembered:
    """Hashes of files by path, size and modification time."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._entries: dict[str, dict[str, Any]] = {}
        self.load()

    def load(self) -> None:
        """Read the cache file; without a readable one nothing is remembered."""
        if self._cache is None or not self._cache.is_file():
            return
        try:
            entries = json.loads(self._cache.read_text(encoding="utf-8"))
        except ValueError:
            return
        self._entries = entries if isinstance(entries, dict) else {}

    def known(self, file: Path) -> dict[str, str] | None:
        """Tensor name to hash for safetensors, else one hash under the empty name; None where it is not remembered."""
        entry = self._entries.get(str(file))
        if isinstance(entry, dict) and isinstance(entry.get("parts"), dict) and _key(file).items() <= entry.items():
            return dict(entry["parts"])
        return None

    def parts(self, file: Path) -> dict[str, str]:
        """The same, computed and remembered where it was not known."""
        found = self.known(file)
        if found is not None:
            return found
        key = _key(file)
        parts = _tensor_hashes(file) if file.suffix == SAFE else {"": _file_hash(file)}
        self._entries[str(file)] = {**key, "parts": parts}
        self._save()
        return parts

    def _save(self) -> None:
        """Replace the cache file at once, so that another process never reads half of it.

        A place that cannot be written to costs time at the next start, and nothing else.
        """
        if self._cache is None:
            return
        with contextlib.suppress(OSError):
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._cache.parent, prefix=f".{self._cache.name}")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(self._entries, stream, sort_keys=True)
            os.replace(temporary, self._cache)


def _key(file: Path) -> dict[str, int]:
    stat = file.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


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
    """Per tensor the hash of dtype, shape and bytes, read straight from the file in pieces, several at once.

    The layout is the format's own: 8 bytes little-endian length of a JSON header with `dtype`, `shape` and
    `data_offsets` per tensor, then the data.
    """
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
        hashed = functools.partial(_tensor_hash, stream.fileno(), 8 + length)
        with ThreadPoolExecutor(_THREADS) as pool:
            return dict(zip(header, pool.map(hashed, header.values()), strict=True))


def _tensor_hash(file: int, begin: int, entry: dict[str, Any]) -> str:
    """The hash of one tensor; `begin` is where the data of the open file begin."""
    digest = hashlib.sha256(f"{entry['dtype']}{entry['shape']}".encode())
    start, end = entry["data_offsets"]
    for offset in range(start, end, _CHUNK):
        digest.update(os.pread(file, min(_CHUNK, end - offset), begin + offset))
    return digest.hexdigest()
