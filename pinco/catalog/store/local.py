"""A store in a folder of this machine, or of a network file system with hard links."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pinco.catalog.store.base import InvalidKeyError, ObjectInfo, ObjectNotFoundError, StoreError

_STAGING = ".staging"
"""Folder in which objects are written before they get their name; never listed."""


class LocalStore:
    """Objects are files. Creating one is atomic: a hard link to a complete, synced file either appears or does not.

    `open(..., "x")` would be exclusive too, but readers would see incomplete objects, and a writer that is killed would
    leave one behind.

    Args:
        root: The folder; made on first use.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = Path(os.path.expanduser(root)).absolute()  # Path's own fails for an unknown ~user

    @property
    def uri(self) -> str:
        return str(self._root)

    def uri_of(self, key: str) -> str:
        return str(self._path(key))

    def get(self, key: str) -> bytes:
        path = self._path(key)
        try:
            if _is_special(path.stat()):
                raise StoreError(f"{path} cannot be read: it is not a file")
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ObjectNotFoundError(f"{path}: there is no such file") from error
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {_reason(error)}") from error

    def head(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        try:
            return _info(key, path.stat()) if path.is_file() else None
        except FileNotFoundError:  # deleted between the two calls
            return None
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {_reason(error)}") from error

    def put_if_absent(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        del content_type  # a file has none
        path = self._path(key)
        staged = self._root / _STAGING / uuid.uuid4().hex
        try:
            staged.parent.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            with staged.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(staged, path)
            except FileExistsError:
                return False
            except OSError as error:
                if _without_links(staged, error):
                    raise StoreError(
                        f"{self._root}: this file system has no hard links, which a store needs to create a "
                        "file exactly once. Use a folder on another disk, or an S3 store."
                    ) from error
                raise
            sync(path.parent)
            return True
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
                raise StoreError(
                    f"{path} cannot be written: {_reason(error)}. Allow this user to write to {self._root}, or name "
                    "another folder."
                ) from error
            raise StoreError(f"{path} cannot be written: {_reason(error)}") from error
        finally:
            with contextlib.suppress(OSError):  # the error was raised already; `sweep` removes the file later
                staged.unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        start = self._root / prefix.rpartition("/")[0]
        found: list[ObjectInfo] = []
        for folder, folders, files in os.walk(start, onerror=_cannot_list):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                path = Path(folder, name)
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and not name.startswith("."):
                    try:
                        status = path.stat()
                    except OSError:  # deleted meanwhile, or a link to nowhere
                        continue
                    if not _is_special(status):
                        found.append(_info(key, status))
        yield from sorted(found, key=lambda info: info.key)

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be deleted: {_reason(error)}") from error

    def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.delete(key)

    def sweep(self, before: datetime) -> int:
        removed = 0
        for staged in (self._root / _STAGING).glob("*"):
            with contextlib.suppress(OSError):  # its writer has finished meanwhile, or it belongs to somebody else
                if staged.stat().st_mtime < before.timestamp():
                    staged.unlink()
                    removed += 1
        return removed

    def object_store_options(self) -> dict[str, str]:
        return {}

    def presign(self, key: str, expires: int = 3600) -> str:
        del expires  # a file's address does not expire
        return self._path(key).as_uri()

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not all(parts) or ".." in parts or "." in parts or parts[0] == _STAGING or "\0" in key:
            raise InvalidKeyError(f"{key!r} is not a key: relative, with single slashes, without '.' and '..'")
        return self._root / key


def _info(key: str, file: os.stat_result) -> ObjectInfo:
    try:
        modified = datetime.fromtimestamp(file.st_mtime, UTC)
    except (ValueError, OverflowError, OSError):  # a year that no calendar has, after a restore gone wrong
        modified = datetime.fromtimestamp(0, UTC)
    # The last part notices a file that was replaced by one of equal size and time. (Inode numbers would too, but some
    # network file systems give a file another one every time.)
    etag = f"{file.st_mtime_ns:x}-{file.st_size:x}-{file.st_ctime_ns:x}"
    return ObjectInfo(key, file.st_size, etag, modified)


def _cannot_list(error: OSError) -> None:
    """For `os.walk`, which is silent about folders that it may not enter; their files must not just be missing."""
    if isinstance(error, PermissionError):
        raise StoreError(f"{error.filename} cannot be listed: {_reason(error)}") from error


def _is_special(file: os.stat_result) -> bool:
    """A pipe, a socket or a device: reading it may never end."""
    return not (stat.S_ISREG(file.st_mode) or stat.S_ISDIR(file.st_mode))


def _without_links(staged: Path, error: OSError) -> bool:
    """Whether a link failed because the file system has none. EPERM also says that a folder may not be written to."""
    if error.errno != errno.EPERM:
        return error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
    beside = staged.with_name(staged.name + "-link")
    try:
        os.link(staged, beside)
    except OSError:
        return True
    beside.unlink(missing_ok=True)
    return False


def sync(path: Path) -> None:
    """Make a file's content, or a folder's entries (the names of new files), survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
