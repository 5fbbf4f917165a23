"""Photo file to pixels: upright, 8 bit, RGB, with the file's alpha and colour profile.

These pixels are "the source" that the delivered product is identical to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from preprocessing.arrays import U8
from preprocessing.colour import colour_space, is_target, is_usable, to_srgb
from preprocessing.errors import (
    EmptyPhotoError,
    NotAPhotoError,
    PhotoError,
    PhotoTooLargeError,
    TruncatedPhotoError,
    UnsupportedPhotoError,
)
from preprocessing.file_kind import READABLE, file_kind, jpeg_scans, webp_canvas
from preprocessing.open_picture import open_picture
from preprocessing.orientation import SIDEWAYS, orientation, turned

FORMATS = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "WEBP": "WebP"}
"""Pillow's name of the format and ours. MPO is a JPEG with further pictures after the first; telephones write it."""

MAX_SCANS = 64
"""Passes of a progressive JPEG. Encoders write about ten; thousands keep a decoder busy for hours."""

_MAX_OPENED = 178_956_970
"""Pixels above which no file is opened at all; Pillow's own limit, which comes too late for WebP."""


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
        return (height, width) if orientation(image, data) in SIDEWAYS else (width, height)


def decode(data: bytes, *, max_pixels: int) -> Photo:
    """Decode a JPEG, PNG or WebP file.

    EXIF data that is damaged counts as absent, and so does a colour profile that cannot be used; the pixels decide.

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
        if image.format in ("JPEG", "MPO") and (scans := jpeg_scans(data)) > MAX_SCANS:
            raise UnsupportedPhotoError(
                f"The photo is a progressive JPEG of {scans} passes, more than the limit of {MAX_SCANS}. "
                "Please save it again as an ordinary JPEG."
            )
        image.load()
        rgb, alpha, icc = _to_rgb(image)
        way = orientation(image, data)
        upright = [np.ascontiguousarray(turned(part, way)) for part in (rgb, alpha) if part is not None]
        return Photo(upright[0], upright[1] if alpha is not None else None, icc, FORMATS[str(image.format)])


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The opened file. Whatever Pillow raises for it, here or inside the block, becomes a `PhotoError`."""
    if not data:
        raise EmptyPhotoError("The photo file is empty (0 bytes). Please upload it again.")
    kind = file_kind(data)
    if not kind:
        raise NotAPhotoError("The file is not a photo: its content is not an image. Please upload a JPEG, PNG or WebP.")
    if kind not in READABLE:
        raise UnsupportedPhotoError(f"The photo is a {kind} file. Please save it as JPEG, PNG or WebP.")
    opened = False
    try:
        width, height = webp_canvas(data) or (0, 0) if kind == "WEBP" else (0, 0)
        if width * height > _MAX_OPENED:
            raise Image.DecompressionBombError
        image = open_picture(data, kind)
        opened = True
        with image:
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise UnsupportedPhotoError(
                    "The photo is an animation. Please save one picture of it as JPEG, PNG or WebP."
                )
            yield image
    except PhotoError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise PhotoTooLargeError(
            "The photo has far too many pixels to be opened. Please upload a smaller version."
        ) from error
    # Decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, RuntimeError, ... for damaged files.
    except Exception as error:
        raise TruncatedPhotoError(
            "The photo file is incomplete or damaged; it may have been cut off while it was uploaded. "
            "Please upload it again."
            if opened
            else "The photo file is damaged, or ends before its first pixel. Please upload it again."
        ) from error


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
        if space != "CMYK" or not is_usable(icc):
            raise UnsupportedPhotoError(
                "The photo is in CMYK (print colours) without a colour profile, so its colours cannot be known. "
                "Please save it as RGB, or with its profile."
            )
        return np.asarray(to_srgb(image, icc)), None, None
    alpha: U8 | None = None
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image)[..., 3]
    if space == "GRAY" and image.mode == "L" and is_usable(icc):  # a grey profile cannot describe RGB pixels
        return np.asarray(to_srgb(image, icc)), alpha, None
    rgb = image.convert("RGB")
    if space != "RGB" or not is_usable(icc):
        return np.asarray(rgb), alpha, None
    if not is_target(icc):  # the generated ground cannot be converted to it, so the photo is converted from it
        return np.asarray(to_srgb(rgb, icc)), alpha, None
    return np.asarray(rgb), alpha, icc
