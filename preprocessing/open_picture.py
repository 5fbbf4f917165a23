"""How a picture's file is opened: its header is read, and nothing is said on standard error."""

from __future__ import annotations

import io
import threading
import warnings

from PIL import Image

_FILTERS = threading.Lock()
"""A process has one list of warning filters: threads that change it at once would leave it changed."""


def open_picture(data: bytes, kind: str) -> Image.Image:
    """The opened file. Its pixels are not decoded.

    Pillow warns of EXIF data that is damaged, of an animation that is none, and of very many pixels. None of it costs
    the picture: the caller reads the orientation by itself, and has its own limit of pixels.

    Args:
        data: The file.
        kind: Pillow's name of its format; no other is tried.

    Raises:
        Exception: Whatever Pillow raises for a damaged file; there are a dozen kinds.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=[kind])
