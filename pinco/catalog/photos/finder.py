"""Which photo a row of the sheet uses."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from pinco.catalog.photos.listing import Catalog, CatalogPhoto
from pinco.catalog.sheet.problems import Problems, did_you_mean
from pinco.catalog.sheet.reader import SheetRow
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess
from pinco.catalog.store.address import absolute, join
from pinco.catalog.store.base import ObjectInfo, StoreError

_LOOKERS = 16
_MOST_COMPARISONS = 300_000
"""Of SKUs with all products of the catalog, for suggestions: seconds. With the wrong catalog it would be hours."""

_SCIENTIFIC = re.compile(r"\d([.,]\d+)?E\+?\d+", re.IGNORECASE)


class PhotoFinder:
    """Finds the photo of each row: the row's own `image`, else the catalog's photo of its SKU.

    Args:
        sheet_path: Relative images are looked for in the sheet's folder first.
        catalog: Its photos, and the folder in which relative images are looked for next.
        access: For S3.
    """

    def __init__(self, sheet_path: str, catalog: Catalog, access: StoreAccess = DEFAULT_ACCESS) -> None:
        self._folders = list(dict.fromkeys([absolute(sheet_path).rpartition("/")[0], catalog.folder]))
        self._catalog = catalog
        self._access = access
        self._comparisons = 0
        self._seen: dict[str, ObjectInfo | str | None] = {
            photo.uri: photo.info for photos in catalog.photos.values() for photo in photos if photo.info
        }

    def look_up(self, rows: Iterable[SheetRow]) -> None:
        """Look all photos of these rows up at once: on S3, one after the other would take hours."""
        wanted = {uri for row in rows for uri in self._places(row)} - self._seen.keys()
        with ThreadPoolExecutor(_LOOKERS) as pool:
            self._seen.update(zip(wanted, pool.map(self._head, wanted), strict=True))

    def find(self, row: SheetRow, problems: Problems) -> tuple[CatalogPhoto, ObjectInfo] | None:
        """The photo of a row.

        Args:
            row: One of the rows given to `look_up`.
            problems: Where an error is added.

        Returns:
            The photo and what the store knows of it; None after an error.
        """
        photos = self._catalog.photos.get(row.sku, ())
        if row.image is None:
            if not photos:
                hint = self._sku_hint(row.sku)
                problems.error("the catalog has no such product", row=row.row, column="sku", value=row.sku, hint=hint)
                return None
            if len(photos) > 1:
                names = ", ".join(os.path.basename(photo.uri) for photo in photos)
                problems.error(
                    f"the catalog has {len(photos)} photos of this product",
                    row=row.row,
                    column="sku",
                    value=row.sku,
                    hint=f"Name one of them in the column image: {names}.",
                )
                return None
        column, value = ("image", row.image) if row.image else ("sku", row.sku)
        places = self._places(row)
        for uri in places:
            info = self._seen.get(uri)
            if isinstance(info, ObjectInfo):
                variables = photos[0].variables if photos else {}
                return CatalogPhoto(row.sku, uri, variables, info), info
            if isinstance(info, str):
                problems.error(f"the photo cannot be read: {info}", row=row.row, column=column, value=value)
                return None
        looked = list(dict.fromkeys(unicodedata.normalize("NFC", place) for place in places))
        message = f"there is no photo at {' or '.join(looked)}" if looked else "this is not an address of a photo"
        hint = self._image_hint(row.image or places[0], places) or "Correct the path, or copy the photo there."
        problems.error(message, row=row.row, column=column, value=value, hint=hint)
        return None

    def _places(self, row: SheetRow) -> list[str]:
        """The addresses at which the row's photo may be, best first."""
        if row.image is None:
            photos = self._catalog.photos.get(row.sku, ())
            if len(photos) != 1:
                return []
            return [photos[0].uri] if photos[0].info else _spellings(photos[0].uri)
        try:
            found = (spelling for folder in self._folders for spelling in _spellings(join(folder, row.image)))
            return list(dict.fromkeys(found))
        except StoreError:
            return []

    def _head(self, uri: str) -> ObjectInfo | str | None:
        try:
            return self._access.head(uri)
        except (StoreError, ValueError) as error:
            return str(error)

    def _sku_hint(self, sku: str) -> str:
        if _SCIENTIFIC.fullmatch(sku):
            return "A spreadsheet has turned this SKU into a number: format the column as text."
        padded = self._by_digits.get(sku.lstrip("0"))
        if padded and sku.strip("0"):
            return f"Did you mean {padded!r}? A spreadsheet may have removed the zeros: format the column as text."
        self._comparisons += len(self._catalog.photos)
        return did_you_mean(sku, self._catalog.photos) if self._comparisons <= _MOST_COMPARISONS else ""

    @cached_property
    def _by_digits(self) -> dict[str, str]:
        """The catalog's SKUs by what is left of them without leading zeros; the first one where several are alike."""
        return {sku.lstrip("0"): sku for sku in reversed(list(self._catalog.photos))}

    def _image_hint(self, image: str, places: list[str]) -> str:
        wanted = os.path.basename(image.replace("\\", "/"))
        names = {os.path.basename(photo.uri) for photos in self._catalog.photos.values() for photo in photos}
        for folder in {os.path.dirname(place) for place in places}:
            with contextlib.suppress(OSError):  # an s3:// prefix, or a folder that is not there either
                names.update(os.listdir(folder))
        return did_you_mean(wanted, names - {wanted})


def _spellings(uri: str) -> list[str]:
    """An address as written, and with its accents composed and decomposed: file systems and spreadsheets differ."""
    return list(dict.fromkeys([uri, unicodedata.normalize("NFC", uri), unicodedata.normalize("NFD", uri)]))
