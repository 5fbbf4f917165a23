"""Where objects are kept: one protocol over a local folder and over S3.

Objects are created once and never changed. `put_if_absent` is the only way to write, and exactly one of several writers
of one key gets True; the images rely on this. The manifest is a Delta table in the same place, which its own library
writes: `object_store_options` says how to reach it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pinco.errors import PincoError


class StoreError(PincoError):
    """The store cannot be used as it is; the message says what to do."""

    code = "store_error"


class ObjectNotFoundError(StoreError):
    """There is no object of that name."""

    code = "object_not_found"


class ObjectTooLargeError(StoreError):
    """The object is larger than what is read of its kind."""

    code = "object_too_large"


class InvalidKeyError(StoreError, ValueError):
    """A name that no object of a store can have."""

    code = "invalid_key"


@dataclass(frozen=True)
class ObjectInfo:
    """What a store knows of an object without reading it.

    Attributes:
        key: Relative to the store.
        size: In bytes.
        etag: Changes whenever the content does (S3's ETag; a file's modification time, size and
            time of the last change by the file system's own clock, which nobody can set back).
        modified: UTC.
    """

    key: str
    size: int
    etag: str
    modified: datetime


class Store(Protocol):
    """Objects by key. Keys are relative, with `/` between their parts. Safe to use from several threads.

    Every method raises `StoreError` where the store cannot be reached or denies access.
    """

    @property
    def uri(self) -> str:
        """The folder's absolute path, or `s3://bucket/prefix`."""
        ...

    def uri_of(self, key: str) -> str:
        """The full address of an object."""
        ...

    def get(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            ObjectNotFoundError: There is no such object.
        """
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """What is known of the object; None where there is none."""
        ...

    def put_if_absent(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Create an object, completely or not at all.

        Args:
            key: Of the object.
            data: Its content.
            content_type: MIME type; a folder has no use for it.

        Returns:
            True: written and durable. False: the key existed already.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects whose keys start with `prefix`, in the order of their keys."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; no error where there is none."""
        ...

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove these objects, in few requests; no error for those that are not there."""
        ...

    def sweep(self, before: datetime) -> int:
        """Remove unfinished objects of writers that ended before this time, and return how many."""
        ...

    def object_store_options(self) -> dict[str, str]:
        """What delta-rs needs to reach the same place, by the names of its object_store library.

        A folder needs nothing. Asked again before every use: credentials that expire are renewed meanwhile.
        """
        ...

    def presign(self, key: str, expires: int = 3600) -> str:
        """An address that a browser can open: an https URL valid for `expires` seconds, or a file:// URL."""
        ...
