"""The catalog: the products, the addresses of their photos, and further columns.

It is a table (Parquet or CSV with `sku`, `image` and any further columns, which templates may use), or a folder or S3
prefix of photos, whose names without suffix are the SKUs.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pinco.catalog.photos.parquet_table import read_parquet
from pinco.catalog.sheet.csv_table import MAX_TABLE, Table, read_csv
from pinco.catalog.sheet.problems import Problems, SheetError, SheetProblem
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess, open_store
from pinco.catalog.store.address import absolute, join, uri_scheme
from pinco.catalog.store.base import ObjectInfo, StoreError

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif", ".jp2"}
)
"""Suffixes of files that are taken for photos. Whether they can be read is checked later, row by row."""

_KINDS = "Name a .csv or .parquet file, or a folder of photos."


@dataclass(frozen=True)
class CatalogPhoto:
    """A photo of a product.

    Attributes:
        sku: The product.
        uri: Absolute path or s3:// URI.
        variables: The table's further columns, for templates; only those that have a value.
        info: What a listing knows of the photo; None where the catalog is a table.
    """

    sku: str
    uri: str
    variables: Mapping[str, str] = field(default_factory=dict)
    info: ObjectInfo | None = None


@dataclass(frozen=True)
class Catalog:
    """A catalog that was read.

    Attributes:
        uri: Its address.
        folder: The folder of the table, or the folder of photos.
        photos: All photos of each SKU; where there are several, the sheet has to name one.
        warnings: What is probably not meant.
    """

    uri: str
    folder: str
    photos: Mapping[str, tuple[CatalogPhoto, ...]]
    warnings: tuple[SheetProblem, ...] = ()


def read_catalog(uri: str, *, access: StoreAccess = DEFAULT_ACCESS) -> Catalog:
    """Read a catalog.

    Args:
        uri: A `.parquet` or `.csv` file, a folder, or an S3 prefix of photos.
        access: For S3.

    Raises:
        SheetError: It is missing, cannot be read, lacks a column, or has no product.
    """
    uri = absolute(str(uri))
    problems = Problems(uri)
    folder = uri.rpartition("/")[0]
    photos: list[CatalogPhoto] = []
    try:
        if uri.casefold().endswith((".csv", ".tsv", ".txt")):
            photos = _from_csv(access.read(uri, max_bytes=MAX_TABLE), folder, problems)
        elif uri.casefold().endswith((".parquet", ".pq")):
            photos = _from_parquet(access.read(uri, max_bytes=MAX_TABLE), folder, problems)
        else:
            folder = uri.rstrip("/")
            photos = _from_listing(folder, access, problems)
    except StoreError as error:
        problems.error(f"the catalog cannot be read: {error}", hint=_KINDS)
    if not photos and not problems.errors:
        problems.error("the catalog holds no photo", hint=_KINDS)
    if problems.errors:
        raise SheetError(problems.errors, problems.warnings)
    return Catalog(uri, folder, _by_sku(photos), tuple(problems.warnings))


def _from_csv(data: bytes, folder: str, problems: Problems) -> list[CatalogPhoto]:
    return _from_table(read_csv(data, problems, ["sku", "image"]), folder, problems)


def _from_parquet(data: bytes, folder: str, problems: Problems) -> list[CatalogPhoto]:
    return _from_table(read_parquet(data, problems), folder, problems)


def _from_table(table: Table, folder: str, problems: Problems) -> list[CatalogPhoto]:
    names = {name: name.casefold() for name in table.columns}
    present = Counter(names.values())
    for name in (name for name, count in present.items() if count > 1):
        problems.error("this column occurs twice", row=1, column=name, hint="Keep one of the two.")
    for needed in ("sku", "image"):
        if needed not in present and not problems.errors:
            problems.error(f"the column {needed} is missing", row=1, hint="A catalog has the columns sku and image.")
    photos = []
    for row in table.rows:
        number, cells = row.number, {names[name]: cell for name, cell in row.cells.items()}
        sku, image = cells.pop("sku", None), cells.pop("image", None)
        if sku is None and image is None:
            continue
        if sku is None:
            problems.error("the sku is missing", row=number, column="sku", hint="Every row names its product.")
            continue
        if image is None:
            problems.warn("this product has no photo", row=number, column="image", value=sku)
            continue
        try:
            uri = join(folder, image)
        except StoreError as error:
            problems.error(str(error), row=number, column="image", value=image)
            continue
        # Composed and decomposed accents look alike and must not give two prompts.
        variables = {re.sub(r"\W+", "_", name): unicodedata.normalize("NFC", cell) for name, cell in cells.items()}
        photos.append(CatalogPhoto(unicodedata.normalize("NFC", sku), uri, variables))
    return photos


def _from_listing(folder: str, access: StoreAccess, problems: Problems) -> list[CatalogPhoto]:
    if uri_scheme(folder) != "s3" and not os.path.isdir(folder):
        problems.error("there is no such folder or file", hint=_KINDS)
        return []
    photos = []
    store = open_store(folder, access=access)
    for info in store.list():
        stem, suffix = os.path.splitext(info.key.rpartition("/")[2])
        if suffix.casefold() in PHOTO_SUFFIXES:
            if not _is_unicode(info.key):
                problems.warn(
                    f"the name of the file {info.key!r} is not valid UTF-8, so it is left out",
                    hint="Rename it with ordinary letters.",
                )
                continue
            sku = unicodedata.normalize("NFC", stem)
            photos.append(CatalogPhoto(sku, store.uri_of(info.key), {}, info))
    return photos


def _by_sku(photos: Iterable[CatalogPhoto]) -> dict[str, tuple[CatalogPhoto, ...]]:
    """Photos by SKU; a product that a table names twice with one photo is one."""
    grouped: dict[str, dict[str, CatalogPhoto]] = {}
    for photo in photos:
        grouped.setdefault(photo.sku, {}).setdefault(photo.uri, photo)
    return {sku: tuple(by_uri.values()) for sku, by_uri in grouped.items()}


def _is_unicode(name: str) -> bool:
    """False for the name of a file that was written in another encoding: no table could hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
