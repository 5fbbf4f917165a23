"""Small pictures to show: upright, in sRGB, on white, as data URIs."""

from __future__ import annotations

import base64
import io
import warnings

from PIL import Image, ImageCms, ImageOps

from preprocessing.colour import to_srgb

_MAX_PIXELS = 100_000_000
"""A contact sheet does not open what would fill the memory."""


def thumbnail_uri(data: bytes, side: int) -> str | None:
    """A JPEG of the picture, its longer side at most `side` pixels, as `data:image/jpeg;base64,...`.

    None where the bytes are no picture that can be opened: what is wrong with them is said elsewhere.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height > _MAX_PIXELS:
                    return None
                opened.draft("RGB", (2 * side, 2 * side))  # a JPEG is decoded no larger than needed
                small = _small(opened, side)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # Pillow's answers to broken files
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
    ground = Image.new("RGB", colours.size, "white")
    ground.paste(colours, mask=alpha)
    return ground


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            return to_srgb(picture, profile)
        except (ImageCms.PyCMSError, OSError):  # a profile that does not fit its picture: shown as it is
            pass
    return picture.convert("RGB")
