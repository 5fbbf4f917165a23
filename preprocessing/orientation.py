"""Which way up a stored picture is meant, according to its EXIF data."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from preprocessing.arrays import U8

_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)
"""Orientations in which width and height are exchanged."""

TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a Pillow image upright, by its orientation."""


def orientation(image: Image.Image, data: bytes) -> int:
    """EXIF orientation 1..8, without decoding pixels (Pillow's own `getexif` decodes a PNG that carries none).

    EXIF data that is absent or damaged says nothing: the picture is then shown as it is stored, which is what viewers
    do. A photo is not lost over its EXIF data.

    Args:
        image: The opened file.
        data: The file's bytes.
    """
    exif = Image.Exif()
    try:
        exif.load(_png_exif(data) if image.format == "PNG" else image.info.get("exif", b""))
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # Pillow's parser raises SyntaxError, struct.error, KeyError, ... for damaged data
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turned(pixels: U8, orientation: int) -> U8:
    """Stored pixels turned upright (EXIF 2.32, tag 0x0112)."""
    if orientation in (2, 7):
        return pixels[:, ::-1] if orientation == 2 else np.rot90(pixels, 1)[:, ::-1]
    if orientation in (4, 5):
        return pixels[::-1] if orientation == 4 else np.rot90(pixels, 1)[::-1]
    return np.rot90(pixels, {3: 2, 6: 3, 8: 1}.get(orientation, 0))


def _png_exif(data: bytes) -> bytes:
    """The eXIf chunk, which may also come after the pixels (PNG, third edition, 11.3.3.1)."""
    at = 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"eXIf":
            return b"Exif\0\0" + data[at + 8 : at + 8 + length]
        at += length + 12
    return b""
