"""Photos of every format, damaged, through everything that looks at one: the header, the pixels, the thumbnail."""

from __future__ import annotations

import io
import random
import zlib
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from pinco.catalog.report.thumbnails import thumbnail_uri
from preprocessing.colour import convert
from preprocessing.cutout import make_cutout
from preprocessing.decode import decode, read_size
from tests.fuzz.mutate import mutated
from tests.fuzz.run import Target

_PIXEL = np.zeros((1, 1, 3), np.uint8)


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _picture() -> Image.Image:
    ramp = np.linspace(0, 255, 40 * 56).astype(np.uint8).reshape(40, 56)
    return Image.fromarray(np.dstack([ramp, ramp[::-1], ramp[:, ::-1]]))


@cache
def _metadata() -> tuple[bytes, bytes]:
    """EXIF data with an orientation and a place, and a colour profile."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8825] = 6, "a product", {1: "N", 2: (52.0, 31.0, 12.0)}
    return exif.tobytes(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@cache
def _photos() -> tuple[bytes, ...]:
    """Those that are read, and then those that are not."""
    picture, (exif, icc), other = _picture(), _metadata(), _picture().transpose(Image.Transpose.ROTATE_180)
    clear = picture.copy()
    clear.putalpha(picture.convert("L").point(lambda level: 255 if level > 99 else 0))
    return (
        _file(picture, "JPEG", exif=exif, icc_profile=icc),
        _file(picture, "JPEG", progressive=True),
        _file(picture.convert("CMYK"), "JPEG"),
        _file(picture, "MPO", save_all=True, append_images=[other]),
        _file(clear, "PNG", exif=exif, icc_profile=icc),
        _file(picture.quantize(16), "PNG", transparency=0),
        _file(picture.convert("I;16"), "PNG"),
        _file(picture, "PNG", save_all=True, append_images=[other]),
        _file(clear, "WEBP", exif=exif, icc_profile=icc),
        _file(picture, "WEBP", lossless=True),
        _file(picture, "WEBP", save_all=True, append_images=[other]),
        _file(picture, "TIFF", compression="tiff_lzw"),
        _file(picture, "AVIF"),
        _file(picture, "GIF"),
        _file(picture, "DDS"),
        _file(picture, "BMP"),
        _file(picture, "JPEG2000"),
    )


def _damaged(chance: random.Random) -> bytes:
    """One in five has sound pixels and damaged metadata. PNGs get their checksums right, so that the damage is seen."""
    exif, icc = _metadata()
    if chance.random() < 0.2:
        exif, icc = mutated(exif, chance), mutated(icc, chance)
        kind = chance.choice(("JPEG", "PNG", "WEBP"))
        return _file(_picture(), kind, exif=exif[:60_000], icc_profile=icc)
    data = mutated(chance.choice(_photos()), chance, _photos())
    return _with_checksums(data) if chance.random() < 0.7 else data


def _with_checksums(data: bytes) -> bytes:
    if not data.startswith(b"\x89PNG"):
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def _decode(data: bytes) -> None:
    thumbnail_uri(data, 64)  # the report shows what it can, and never fails
    read_size(data)
    photo = decode(data, max_pixels=1_000_000)
    assert photo.rgb.shape[:2] == (photo.alpha.shape if photo.alpha is not None else photo.rgb.shape[:2])
    if photo.icc is not None:  # as when the product is delivered
        convert(_PIXEL, None, photo.icc), convert(_PIXEL, photo.icc, None)


def _cut_out(data: bytes) -> None:
    if read_size(data) <= (200, 200):
        make_cutout(data)


DECODER = Target("decoder", _damaged, _decode)
CUTOUT = Target("cutting out", _damaged, _cut_out)
