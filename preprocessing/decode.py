"""Photo file to pixels: upright, 8 bit, RGB, with the file's alpha and colour profile.

These pixels are "the source" that the delivered product is identical to.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from preprocessing.arrays import U8
from preprocessing.colour import colour_space, to_srgb
from preprocessing.errors import (
    EmptyPhotoError,
    NotAPhotoError,
    PhotoTooLargeError,
    TruncatedPhotoError,
    UnsupportedPhotoError,
)

FORMATS = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "WEBP": "WebP"}
"""Pillow's name of the format and ours. MPO is a JPEG with further pictures after the first; telephones write it."""

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True)
class Photo:
    """Decoded, upright, 8-bit pixels.

    Attributes:
        rgb: `[H, W, 3]`.
        alpha: `[H, W]`; None if the file has none.
        icc: Colour profile of `rgb`; None = sRGB.
        format: "JPEG", "PNG" or "WebP".
    """

    rgb: U8
    alpha: U8 | None
    icc: bytes | None
    format: str


def read_size(data: bytes) -> tuple[int, int]:
    """(width, height) of the upright photo, from the header alone.

    Raises:
        PhotoError: As by `decode`.
    """
    with _opened(data) as image:
        width, height = image.size
        return (height, width) if _orientation(image, data) in _SIDEWAYS else (width, height)


def decode(data: bytes, *, max_pixels: int) -> Photo:
    """Decode a JPEG, PNG or WebP file.

    Args:
        data: The file.
        max_pixels: Width times height at most.

    Raises:
        EmptyPhotoError: The file has no bytes.
        NotAPhotoError: The content is not an image.
        TruncatedPhotoError: The file ends early or is damaged.
        UnsupportedPhotoError: The format, or the kind of pixels, is not supported.
        PhotoTooLargeError: The header names more than `max_pixels`; no pixel was decoded.
    """
    with _opened(data) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise PhotoTooLargeError(
                f"The photo has {width} x {height} pixels, more than the limit of {max_pixels / 1e6:.0f} million. "
                "Please upload a smaller version."
            )
        orientation = _orientation(image, data)
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, struct.error, EOFError) as error:
            raise TruncatedPhotoError(
                "The photo file is incomplete or damaged; it may have been cut off while it was uploaded. "
                "Please upload it again."
            ) from error
        rgb, alpha, icc = _to_rgb(image)
        upright = [np.ascontiguousarray(_turned(part, orientation)) for part in (rgb, alpha) if part is not None]
        return Photo(upright[0], upright[1] if alpha is not None else None, icc, FORMATS[str(image.format)])


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    if not data:
        raise EmptyPhotoError("The photo file is empty (0 bytes). Please upload it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the caller's own limit decides
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise PhotoTooLargeError(
            "The photo has far too many pixels to be opened. Please upload a smaller version."
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error, EOFError) as error:
        if _looks_like_photo(data):
            raise TruncatedPhotoError("The photo file ends before its first pixel. Please upload it again.") from error
        raise NotAPhotoError(
            "The file is not a photo: its content is not an image. Please upload a JPEG, PNG or WebP."
        ) from error
    with image:
        if image.format not in FORMATS:
            raise UnsupportedPhotoError(f"The photo is a {image.format} file. Please save it as JPEG, PNG or WebP.")
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
            raise UnsupportedPhotoError(
                "The photo is an animation. Please save one picture of it as JPEG, PNG or WebP."
            )
        yield image


def _looks_like_photo(data: bytes) -> bool:
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def _orientation(image: Image.Image, data: bytes) -> int:
    """EXIF orientation 1..8, without decoding pixels (Pillow's own `getexif` decodes a PNG that carries none)."""
    exif = Image.Exif()
    if image.format == "PNG":
        exif.load(_png_exif(data))
    else:
        exif.load(image.info.get("exif", b""))
    value = exif.get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _png_exif(data: bytes) -> bytes:
    """The eXIf chunk, which may also come after the pixels (PNG, third edition, 11.3.3.1)."""
    at = 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"eXIf":
            return b"Exif\0\0" + data[at + 8 : at + 8 + length]
        at += length + 12
    return b""


def _turned(pixels: U8, orientation: int) -> U8:
    """Stored pixels turned upright (EXIF 2.32, tag 0x0112)."""
    if orientation in (2, 7):
        return pixels[:, ::-1] if orientation == 2 else np.rot90(pixels, 1)[:, ::-1]
    if orientation in (4, 5):
        return pixels[::-1] if orientation == 4 else np.rot90(pixels, 1)[::-1]
    return np.rot90(pixels, {3: 2, 6: 3, 8: 1}.get(orientation, 0))


def _to_rgb(image: Image.Image) -> tuple[U8, U8 | None, bytes | None]:
    icc: bytes = image.info.get("icc_profile") or b""
    space = colour_space(icc)
    if image.mode == "I;16":  # 16-bit grey; 16-bit RGB comes from Pillow as its high bytes already
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK"):
        raise UnsupportedPhotoError(
            f"The photo has an unusual pixel format ({image.mode}). Please save it as 8-bit RGB."
        )
    if image.mode == "CMYK":
        if space != "CMYK":
            raise UnsupportedPhotoError(
                "The photo is in CMYK (print colours) without a colour profile, so its colours cannot be known. "
                "Please save it as RGB, or with its profile."
            )
        return np.asarray(to_srgb(image, icc)), None, None
    alpha: U8 | None = None
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image)[..., 3]
    if space == "GRAY" and image.mode == "L":  # a grey profile cannot describe RGB pixels
        return np.asarray(to_srgb(image, icc)), alpha, None
    return np.asarray(image.convert("RGB")), alpha, icc if space == "RGB" else None
