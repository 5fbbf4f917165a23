"""Which way up a stored picture is meant, according to its EXIF data."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from preprocessing.arrays import U8

_ORIENTATION = 0x0112
_WIDTHS = {3: "H", 4: "I"}
"""Types of whole numbers in TIFF, as `struct` names them."""

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
    exif = _png_exif(data) if image.format == "PNG" else image.info.get("exif", b"")
    return _orientation_in(exif) if isinstance(exif, bytes) else 1


def _orientation_in(exif: bytes) -> int:
    """The orientation's entry in the first directory (TIFF 6.0, section 2), or 1.

    Pillow's parser is for all of EXIF: it stops with a dozen kinds of errors, or warns, over entries that are not asked
    for here.
    """
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    found = 1
    if order is None:
        return found
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI", exif, entry)
            if tag == _ORIENTATION and values == 1 and kind in _WIDTHS:
                (found,) = struct.unpack_from(order + _WIDTHS[kind], exif, entry + 8)
    except struct.error:  # the data ends here; what was found before that holds
        pass
    return found if 1 <= found <= 8 else 1


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
