"""Addresses of folders and objects, as people and tables write them."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from pinco.catalog.store.base import StoreError


def uri_scheme(uri: str) -> str:
    """The scheme of an address: "" for a plain path, "file" or "s3".

    Raises:
        StoreError: For any other scheme.
    """
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    if scheme not in ("", "file", "s3"):
        raise StoreError(f"{uri}: Pinco reads folders, file:// and s3:// addresses, not {scheme}://")
    return scheme


def local_path(uri: str) -> str:
    """The path behind a plain path or a file:// URI."""
    return unquote(urlsplit(uri).path) if uri_scheme(uri) == "file" else uri


def absolute(uri: str) -> str:
    """An address that means the same from everywhere: plain paths and file:// become absolute paths."""
    return uri if uri_scheme(uri) == "s3" else os.path.abspath(os.path.expanduser(local_path(uri)))


def join(folder: str, name: str) -> str:
    """The address of `name` as written by a table in `folder` (both as people write them, also on Windows)."""
    if "://" in name or os.path.isabs(name):
        return absolute(name)
    name = name.replace("\\", "/").removeprefix("./")
    return f"{folder}/{name}" if uri_scheme(folder) == "s3" else absolute(f"{folder}/{name}")
