"""Addresses of folders and objects, as people and tables write them: paths, file:// and s3:// URIs."""

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
    """The path that a plain path or a file:// URI stands for.

    Raises:
        StoreError: It is not an address, or not one of a file.
    """
    try:
        path = unquote(urlsplit(uri).path, errors="strict") if uri_scheme(uri) == "file" else uri
    except ValueError as error:
        raise StoreError(f"{uri}: this is not an address of a file ({error})") from error
    if "\0" in path:
        raise StoreError(f"{uri!r}: an address cannot contain a NUL character")
    return path


def absolute(uri: str) -> str:
    """An address that does not depend on the working folder: plain paths and file:// URIs become absolute paths."""
    return uri if uri_scheme(uri) == "s3" else os.path.abspath(os.path.expanduser(local_path(uri)))


def join(folder: str, name: str) -> str:
    """The address of `name`, as a table in `folder` writes it.

    Args:
        folder: Path or URI of the table's folder.
        name: Absolute path, URI, or path relative to the folder, also with backslashes.
    """
    if "://" in name or os.path.isabs(name):
        return absolute(name)
    name = name.replace("\\", "/").removeprefix("./")
    return f"{folder}/{name}" if uri_scheme(folder) == "s3" else absolute(f"{folder}/{name}")
