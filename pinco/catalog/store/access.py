"""How stores are opened: by an address, and what is needed to reach it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pinco.catalog.store.address import local_path, uri_scheme
from pinco.catalog.store.base import ObjectInfo, ObjectTooLargeError, Store
from pinco.catalog.store.local import LocalStore


@dataclass(frozen=True)
class StoreAccess:
    """What is needed to open S3 addresses; folders need nothing. It travels to the actors with the run's settings.

    Credentials are not here: they come from the usual AWS variables and files of the machine that connects.

    Attributes:
        endpoint: URL of an S3-compatible server; None = AWS, or the server of the AWS variables.
        region: AWS region; None = the usual AWS configuration.
        profile: Named profile of the AWS configuration files; None = the default one.
    """

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None

    def open(self, uri: str) -> Store:
        """Open the store at `uri`: a folder (made on first use), `file://...` or `s3://bucket/prefix`.

        Raises:
            StoreError: For a scheme that is none of these, or an S3 configuration that cannot be used.
        """
        if uri_scheme(uri) == "s3":
            from pinco.catalog.store.s3 import S3Store  # boto3 is slow to import, and folders do not need it

            return S3Store(uri, endpoint=self.endpoint, region=self.region, profile=self.profile)
        return LocalStore(local_path(uri))

    def split(self, uri: str) -> tuple[Store, str]:
        """The store that holds the object at `uri`, and the object's key in it."""
        if uri_scheme(uri) == "s3":
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            return self.open(f"s3://{bucket}"), key
        path = Path(os.path.expanduser(local_path(uri))).absolute()  # Path's own fails for an unknown ~user
        return LocalStore(path.parent), path.name

    def read(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        """The bytes at a plain path, a file:// or an s3:// address.

        Args:
            uri: The address.
            max_bytes: Larger objects are not read; None = no limit.

        Raises:
            ObjectNotFoundError: There is no such object.
            ObjectTooLargeError: It has more than `max_bytes`.
            StoreError: It exists but cannot be read.
        """
        store, key = self.split(uri)
        info = store.head(key) if max_bytes is not None else None
        if info is not None and max_bytes is not None and info.size > max_bytes:
            raise ObjectTooLargeError(
                f"{uri} has {info.size / 2**20:,.0f} MiB; at most {max_bytes / 2**20:,.0f} MiB are read"
            )
        return store.get(key)

    def head(self, uri: str) -> ObjectInfo | None:
        """What is known of the object at an address; None where there is none."""
        store, key = self.split(uri)
        return store.head(key)


DEFAULT_ACCESS = StoreAccess()
"""Folders, and S3 as the machine is configured for it."""


def open_store(uri: str, access: StoreAccess = DEFAULT_ACCESS) -> Store:
    """Open the store at `uri`; see `StoreAccess.open`."""
    return access.open(uri)
