"""Rows that wait beside their images until the table has them, so that no image of a run that dies is made twice.

    _pending/{name of the image}.json   put first: the row, as it will stand in the manifest
    images/{name of the image}          put next: the image itself
    manifest/                           the row is appended, with those of the last seconds
    _pending/...                        removed

Whatever moment a run dies at: an image that is there has its row beside it or in the table. The next run appends the
rows that wait (`pinco.catalog.manifest.adoption`) before it plans.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime

import pyarrow as pa

from pinco.catalog.delivery.images import IMAGES, is_image_key, key_of_image, put_image
from pinco.catalog.ids.identity import ImageFormat
from pinco.catalog.manifest.schema import Row, to_table
from pinco.catalog.store.base import Store

PENDING = "_pending/"


def pending_key(image_key: str) -> str:
    """Where the row of an image waits."""
    return f"{PENDING}{image_key.removeprefix(IMAGES)}.json"


def image_of(pending: str) -> str:
    """The key of the image that this row waits for; the inverse of `pending_key`."""
    return IMAGES + pending.removeprefix(PENDING).removesuffix(".json")


def is_pending_key(key: str) -> bool:
    """Whether a row of ours waits under this key; anything else that lies there belongs to somebody else."""
    return key.startswith(PENDING) and key.endswith(".json") and is_image_key(image_of(key))


def keep_image(store: Store, row: Row, file: bytes, image_format: ImageFormat) -> None:
    """Put a finished image into the store, with its row beside it until that is in the manifest.

    Args:
        store: The run's store.
        row: The image's row, which names the store's address for it.
        file: The image's bytes.
        image_format: Their format.

    Raises:
        StoreError: The store cannot be written.
    """
    key = key_of_image(str(row.image_uri))
    store.put_if_absent(pending_key(key), row_to_json(row).encode(), "application/json")
    put_image(store, str(row.generation_id), file, image_format)


def row_to_json(row: Row) -> str:
    """A row as one line of JSON."""
    return json.dumps(asdict(row) | {"created_at": row.created_at.isoformat()}, ensure_ascii=False)


def row_from_json(text: str | bytes) -> Row:
    """The inverse of `row_to_json`.

    Raises:
        ValueError: The text is not a row, or one of a newer version.
    """
    try:
        fields = json.loads(text)
        fields["created_at"] = datetime.fromisoformat(fields["created_at"])
        row = Row(**fields | {"not_scored": tuple(fields["not_scored"])})
        to_table([row])  # every value is of its column's type
        return row
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, pa.ArrowException) as error:
        raise ValueError(f"this is not a row that this version of Pinco can read: {error}") from error
