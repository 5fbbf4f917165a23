"""Finished pixels to a file that carries its colour profile and its provenance. The same input gives the same bytes."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from PIL import Image, PngImagePlugin

from pinco.catalog.delivery.provenance import Provenance
from pinco.catalog.ids.identity import ImageFormat
from preprocessing.arrays import U8

XMP_KEYWORD = "XML:com.adobe.xmp"
"""Keyword of the iTXt chunk in which PNG readers look for XMP (XMP specification, part 3, 1.1.5)."""


def pixels_sha256(final: U8) -> str:
    """Hash of the pixels `[H, W, 3]` in C order: it does not change when only the file's compression does."""
    return hashlib.sha256(np.ascontiguousarray(final).tobytes()).hexdigest()


def encode_image(
    final: U8,
    image_format: ImageFormat,
    *,
    quality: int = 90,
    icc: bytes | None = None,
    provenance: Provenance,
) -> bytes:
    """Encode a picture.

    Args:
        final: `[H, W, 3]`.
        image_format: "png", "jpeg" or "webp".
        quality: 1..100 for JPEG (4:4:4) and WebP; no effect on PNG, which is lossless.
        icc: Colour profile of the pixels; None writes none, which readers take as sRGB.
        provenance: Written into the file as XMP.

    Raises:
        ValueError: The pixels are not uint8 `[H, W, 3]`, or the format is unknown.
    """
    if final.dtype != np.uint8 or final.ndim != 3 or final.shape[2] != 3:
        raise ValueError(f"need uint8 pixels [H, W, 3], got {final.dtype} {final.shape}")
    image = Image.fromarray(final)
    xmp = provenance.xmp()
    out = io.BytesIO()
    match image_format:
        case "png":
            text = PngImagePlugin.PngInfo()
            text.add_itxt(XMP_KEYWORD, xmp.decode())
            image.save(out, "PNG", pnginfo=text, icc_profile=icc, compress_level=6)
        case "jpeg":
            # Chroma at full resolution: subsampling smears the small red print of labels.
            image.save(out, "JPEG", quality=quality, subsampling=0, icc_profile=icc, xmp=xmp)
        case "webp":
            image.save(out, "WEBP", quality=quality, method=4, icc_profile=icc, xmp=xmp)
        case _:
            raise ValueError(f"format must be png, jpeg or webp, not {image_format!r}")
    return out.getvalue()
