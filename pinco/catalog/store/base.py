"""Where things are kept: one small protocol over a local folder and over S3.

Objects are created once and never changed. `put_if_absent` is the only way to write, and exactly one of several writers
of one key is told True; the commit log and the images rest on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pinco.errors import PincoError


class StoreError(PincoError):
    """The store cannot be used as it is; the text says what to do about it."""

    code = "store_error"


class ObjectNotFoundError(StoreError):
    """There is no object of that name."""

    code = "object_not_found"


@dataclass(frozen=True)
class ObjectInfo:
    """What a store knows of an object without reading it.

    Attributes:
        key: The object's key.
        size: Bytes.
        etag: Changes whenever the content does (S3's ETag; a folder's modification time and size).
        modified: When it was written, UTC.
    """

    key: str
    size: int
    etag: str
    modified: datetime


class Store(Protocol):
    """Objects by key. Keys are relative, with `/` between their parts. Safe to use from several threads.

    Every method raises StoreError where the store cannot be reached or denies access.

    Attributes:
        uri: The folder's absolute path, or `s3://bucket/prefix`; `uri_of(key)` is the full address of one object.
    """

    @property
    def uri(self) -> str: ...

    def uri_of(self, key: str) -> str: ...

    def get(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            ObjectNotFoundError: There is none.
        """
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """What is known of the object, None where there is none."""
        ...

    def put_if_absent(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Create the object, whole or not at all. True: written and durable; False: the key was taken."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects whose keys start with `prefix`, in the order of their keys."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; no error where there is none."""
        ...

    def sweep(self, before: datetime) -> int:
        """Remove what writers that died before this time left half done, and say how much that was."""
        ...

    def presign(self, key: str, expires: int = 3600) -> str:
        """An address that a browser can open: an https URL valid for `expires` seconds, or a file:// URL."""
        ...
