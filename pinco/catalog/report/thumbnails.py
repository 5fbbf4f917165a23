"""Thumbnails: upright, in sRGB, on white, as data URIs."""

from __future__ import annotations

import base64
import io

from PIL import Image, ImageCms

from preprocessing.colour import to_srgb
from preprocessing.file_kind import READABLE, file_kind, webp_canvas
from preprocessing.open_picture import open_picture
from preprocessing.orientation import TRANSPOSE, orientation

_MAX_PIXELS = 100_000_000
"""Larger pictures are not opened: they could fill the memory."""


def thumbnail_uri(data: bytes, side: int) -> str | None:
    """A small JPEG of a picture.

    Args:
        data: The picture's file.
        side: Longer side of the thumbnail in pixels, at most.

    Returns:
        `data:image/jpeg;base64,...`; None where the picture cannot be shown, for whatever reason: a report never fails
        over a picture.
    """
    try:
        return _thumbnail(data, side)
    except Exception:  # decoders raise OSError, SyntaxError, struct.error, RuntimeError, ... for damaged files
        return None


def _thumbnail(data: bytes, side: int) -> str | None:
    kind = file_kind(data)
    width, height = (webp_canvas(data) if kind == "WEBP" else None) or (0, 0)
    if kind not in READABLE or width * height > _MAX_PIXELS:
        return None
    with open_picture(data, kind) as opened:
        if opened.width * opened.height > _MAX_PIXELS:
            return None
        opened.draft("RGB", (2 * side, 2 * side))  # a JPEG is decoded no larger than needed
        way = orientation(opened, data)
        small = _small(opened, side)
    upright = small.transpose(TRANSPOSE[way]) if way in TRANSPOSE else small
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", quality=82, comment=b"")  # not the picture's own comment
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _small(picture: Image.Image, side: int) -> Image.Image:
    profile = picture.info.get("icc_profile")
    has_alpha = picture.has_transparency_data
    if picture.mode not in ("RGB", "RGBA", "L", "CMYK"):
        picture = picture.convert("RGBA" if has_alpha else "RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    alpha = picture.convert("RGBA").getchannel("A") if has_alpha else None
    colours = _in_srgb(picture.convert("RGB") if picture.mode == "RGBA" else picture, profile)
    if alpha is None:
        return colours
    background = Image.new("RGB", colours.size, "white")
    background.paste(colours, mask=alpha)
    return background


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            return to_srgb(picture, profile)
        except (ImageCms.PyCMSError, OSError):  # a profile that does not fit its picture: shown as it is
            pass
    return picture.convert("RGB")
