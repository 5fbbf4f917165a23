"""Thumbnails: upright, in sRGB, on white, as data URIs."""

from __future__ import annotations

import base64
import io
import warnings

from PIL import Image, ImageCms, ImageOps

from preprocessing.colour import to_srgb

_MAX_PIXELS = 100_000_000
"""Larger pictures are not opened: they could fill the memory."""


def thumbnail_uri(data: bytes, side: int) -> str | None:
    """A small JPEG of a picture.

    Args:
        data: The picture's file.
        side: Longer side of the thumbnail in pixels, at most.

    Returns:
        `data:image/jpeg;base64,...`; None where the bytes are not a picture that can be opened.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height > _MAX_PIXELS:
                    return None
                opened.draft("RGB", (2 * side, 2 * side))  # a JPEG is decoded no larger than needed
                small = _small(opened, side)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for damaged files
        return None
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _small(picture: Image.Image, side: int) -> Image.Image:
    profile = picture.info.get("icc_profile")
    upright = ImageOps.exif_transpose(picture)
    has_alpha = upright.has_transparency_data
    if upright.mode not in ("RGB", "RGBA", "L", "CMYK"):
        upright = upright.convert("RGBA" if has_alpha else "RGB")
    upright.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    alpha = upright.convert("RGBA").getchannel("A") if has_alpha else None
    colours = _in_srgb(upright.convert("RGB") if upright.mode == "RGBA" else upright, profile)
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
