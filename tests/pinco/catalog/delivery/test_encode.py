from __future__ import annotations

import hashlib
import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data as photographs

from pinco.catalog.delivery.encode import encode_image, pixels_sha256
from pinco.catalog.delivery.provenance import Provenance

PICTURE: np.ndarray = np.ascontiguousarray(photographs.coffee()[:120, :160])
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MARK = Provenance("c0ffee" * 10 + "beef")
FORMATS: list[Any] = ["png", "jpeg", "webp"]


def chunks(png: bytes) -> dict[bytes, bytes]:
    found, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        found[png[at + 4 : at + 8]] = png[at + 8 : at + 8 + length]
        at += length + 12
    return found


def test_png_is_lossless_and_marked_in_the_chunk_that_readers_look_for() -> None:
    data = encode_image(PICTURE, "png", icc=ICC, provenance=MARK)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), PICTURE)
    text = chunks(data)[b"iTXt"]
    # Keyword, two flags for "not compressed", no language, no translated keyword.
    assert text == b"XML:com.adobe.xmp\0\0\0\0\0" + MARK.xmp()


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_carries_profile_mark_and_id(fmt: Any) -> None:
    image = Image.open(io.BytesIO(encode_image(PICTURE, fmt, icc=ICC, provenance=MARK)))
    assert image.format == fmt.upper() and image.size == (160, 120)
    assert image.info["icc_profile"] == ICC
    xmp = image.info["xmp"]
    assert MARK.generation_id.encode() in xmp
    assert b">http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia<" in xmp


@pytest.mark.parametrize("fmt", FORMATS)
def test_without_a_profile_none_is_written(fmt: Any) -> None:
    image = Image.open(io.BytesIO(encode_image(PICTURE, fmt, provenance=MARK)))
    assert "icc_profile" not in image.info


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_same_input_gives_the_same_bytes(fmt: Any) -> None:
    one, other = (encode_image(PICTURE.copy(), fmt, quality=80, icc=ICC, provenance=MARK) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("fmt", ["jpeg", "webp"])
def test_quality_counts_where_there_is_loss(fmt: Any) -> None:
    errors, sizes = [], []
    for quality in (30, 95):
        data = encode_image(PICTURE, fmt, quality=quality, provenance=MARK)
        decoded = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        errors.append(np.abs(decoded.astype(int) - PICTURE).mean())
        sizes.append(len(data))
    assert errors[1] < errors[0] and sizes[1] > sizes[0] and errors[1] < 3.0


def test_jpeg_keeps_the_colour_of_single_pixels() -> None:
    dots = np.full((32, 32, 3), 255, np.uint8)
    dots[8:24:4, 8:24:4] = (200, 0, 0)
    decoded = np.asarray(Image.open(io.BytesIO(encode_image(dots, "jpeg", quality=95, provenance=MARK))))
    assert decoded[8, 8, 0] - decoded[8, 8, 1].astype(int) > 150


def test_the_pixels_hash_depends_on_pixels_and_not_on_their_memory_layout() -> None:
    assert pixels_sha256(PICTURE) == hashlib.sha256(PICTURE.tobytes()).hexdigest()
    assert pixels_sha256(np.asfortranarray(PICTURE)) == pixels_sha256(PICTURE)
    changed = PICTURE.copy()
    changed[0, 0, 0] ^= 1
    assert pixels_sha256(changed) != pixels_sha256(PICTURE)


def test_other_arrays_and_formats_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[H, W, 3\]"):
        encode_image(PICTURE[..., 0], "png", provenance=MARK)
    with pytest.raises(ValueError, match="gif"):
        encode_image(PICTURE, "gif", provenance=MARK)  # type: ignore[arg-type]
