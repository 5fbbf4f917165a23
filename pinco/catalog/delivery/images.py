"""How finished images are named in the store."""

from __future__ import annotations

import hashlib
import re

from pinco.catalog.ids.identity import ImageFormat
from pinco.catalog.store.base import Store

IMAGES = "images/"

SUFFIX: dict[ImageFormat, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}
CONTENT_TYPE: dict[ImageFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

_KEY = re.compile(rf"{IMAGES}[^/]+-[0-9a-f]{{16}}\.({'|'.join(SUFFIX.values())})")


def image_key(generation_id: str, image_sha256: str, image_format: ImageFormat) -> str:
    """`images/{generation_id}-{first 16 digits of the file's sha256}.{suffix}`: the name says what the bytes are."""
    return f"{IMAGES}{generation_id}-{image_sha256[:16]}.{SUFFIX[image_format]}"


def put_image(store: Store, generation_id: str, data: bytes, image_format: ImageFormat) -> tuple[str, str]:
    """Write a finished image once; an object of that name has the same bytes.

    Returns:
        Its address, and the sha256 of the file.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    key = image_key(generation_id, sha256, image_format)
    store.put_if_absent(key, data, CONTENT_TYPE[image_format])
    return store.uri_of(key), sha256


def is_image_key(key: str) -> bool:
    """Whether this is the name of an image of ours; anything else that lies there belongs to somebody else."""
    return _KEY.fullmatch(key) is not None


def key_of_image(image_uri: str) -> str:
    """The key of a manifest row's image. Rows of earlier versions hold the address that the store had then."""
    return IMAGES + image_uri.replace("\\", "/").rpartition("/")[2]
