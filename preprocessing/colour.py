"""Colour profiles (ICC), and the one conversion between them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from preprocessing.arrays import U8

SRGB_CONVERSION = "lcms2-relative-bpc-8bit"
"""How colours are converted, both ways: Little CMS, relative colorimetric with black point compensation, 8 bit."""


def colour_space(icc: bytes | None) -> str:
    """The colour space of a profile: "RGB", "GRAY", "CMYK", ...

    Returns:
        "" for no profile or one that cannot be read, which viewers ignore as well.
    """
    if not icc:
        return ""
    try:
        return str(_profile(icc).profile.xcolor_space).strip()
    except (OSError, ValueError):  # ValueError: the name of the colour space is not ASCII
        return ""


def is_usable(icc: bytes) -> bool:
    """Whether colours can be converted from a profile to sRGB: one that opens may still be damaged inside."""
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(colour_space(icc))
    try:
        return mode is not None and _converted(Image.new(mode, (1, 1)), icc, None).size == (1, 1)
    except (OSError, ValueError, ImageCms.PyCMSError):
        return False


def is_target(icc: bytes) -> bool:
    """Whether colours can be converted from sRGB to an RGB profile: those of cameras and scanners go one way only."""
    try:
        return colour_space(icc) == "RGB" and _converted(Image.new("RGB", (1, 1)), None, icc).size == (1, 1)
    except (OSError, ValueError, ImageCms.PyCMSError):
        return False


def convert(pixels: U8, source: bytes | None, target: bytes | None) -> U8:
    """Pixels from one RGB profile to another, by the conversion named `SRGB_CONVERSION`.

    Args:
        pixels: `[H, W, 3]`.
        source: The profile that they are meant in; None = sRGB.
        target: The profile wanted; None = sRGB. The same as `source` changes nothing.
    """
    return pixels if source == target else np.asarray(_converted(Image.fromarray(pixels), source, target), np.uint8)


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """An RGB, grey or CMYK image as sRGB, by the conversion named `SRGB_CONVERSION`.

    Raises:
        OSError: The profile cannot be read.
        PIL.ImageCms.PyCMSError: The profile is of another colour space than the image.
    """
    return _converted(image, icc, None)


def _converted(image: Image.Image, source: bytes | None, target: bytes | None) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        _profile(source),
        _profile(target),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # only a conversion in place returns None
    return converted


def _profile(icc: bytes | None) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB") if icc is None else io.BytesIO(icc))
