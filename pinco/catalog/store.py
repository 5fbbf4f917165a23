"""Where things are kept: one small protocol over a local folder and over S3.

Objects are created once and never changed. `put_if_absent` is the only way to write, and exactly one of several writers
of one key is told True; the commit log and the images rest on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit


class StoreError(Exception):
    """The store cannot be used as it is; the text says what to do about it."""


class ObjectNotFoundError(StoreError):
    """There is no object of that name."""


@dataclass(frozen=True)
class ObjectInfo:
    """What a store knows of an object without reading it.

    etag: changes whenever the content does (S3's ETag; a folder's modification time and size).
    modified: UTC.
    """

    key: str
    size: int
    etag: str
    modified: datetime


class Store(Protocol):
    """Objects by key. Keys are relative, with `/` between their parts. Safe to use from several threads.

    uri: the folder's absolute path, or `s3://bucket/prefix`. `uri_of(key)` is the full address of one object.
    Every method raises StoreError where the store cannot be reached or denies access.
    """

    @property
    def uri(self) -> str: ...

    def uri_of(self, key: str) -> str: ...

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises ObjectNotFoundError."""
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


def open_store(uri: str, *, endpoint: str | None = None) -> Store:
    """Open the store at `uri`: a folder (made on first use), `file://...` or `s3://bucket/prefix`.

    endpoint: URL of an S3-compatible server; None = the usual AWS variables.

    Raises:
        StoreError: for a scheme that is neither.
    """
    from pinco.catalog.stores.local import LocalStore  # the stores import this module

    scheme = uri_scheme(uri)
    if scheme == "s3":
        from pinco.catalog.stores.s3 import S3Store  # boto3 takes a while to import, and a folder needs none of it

        return S3Store(uri, endpoint=endpoint)
    return LocalStore(local_path(uri))


def read_uri(uri: str, endpoint: str | None = None) -> bytes:
    """The bytes behind a plain path, a file:// or an s3:// URI.

    Raises:
        ObjectNotFoundError: nothing is there.
        StoreError: it is there but cannot be read.
    """
    store, key = split_uri(uri, endpoint)
    return store.get(key)


def head_uri(uri: str, endpoint: str | None = None) -> ObjectInfo | None:
    """What is known of the object behind a plain path, a file:// or an s3:// URI; None where nothing is there."""
    store, key = split_uri(uri, endpoint)
    return store.head(key)


def split_uri(uri: str, endpoint: str | None = None) -> tuple[Store, str]:
    """The store that holds `uri`, and the object's key in it."""
    if uri_scheme(uri) == "s3":
        from pinco.catalog.stores.s3 import S3Store

        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return S3Store(f"s3://{bucket}", endpoint=endpoint), key
    from pinco.catalog.stores.local import LocalStore

    path = Path(local_path(uri)).expanduser().absolute()
    return LocalStore(path.parent), path.name


def uri_scheme(uri: str) -> str:
    """ "" for a plain path, "file" or "s3".

    Raises:
        StoreError: for any other scheme.
    """
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    if scheme not in ("", "file", "s3"):
        raise StoreError(f"{uri}: Pinco reads folders, file:// and s3:// addresses, not {scheme}://")
    return scheme


def local_path(uri: str) -> str:
    """The path behind a plain path or a file:// URI."""
    return unquote(urlsplit(uri).path) if uri_scheme(uri) == "file" else uri
