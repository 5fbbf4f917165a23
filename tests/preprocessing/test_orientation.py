from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from preprocessing.orientation import TRANSPOSE, orientation, turned

PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def found(kind: str, exif: bytes) -> int:
    out = io.BytesIO()
    Image.fromarray(PICTURE).save(out, kind, exif=exif)
    return orientation(Image.open(io.BytesIO(out.getvalue())), out.getvalue())


def with_value(value: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_is_read_from_the_header(kind: str) -> None:
    assert [found(kind, with_value(value)) for value in range(1, 9)] == list(range(1, 9))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        with_value(6)[:20],
        with_value(0),
        with_value(9),
    ],
)
def test_damaged_exif_counts_as_absent(kind: str, exif: bytes) -> None:
    assert found(kind, exif) == 1


@pytest.mark.parametrize("way", range(1, 9))
def test_pictures_and_arrays_are_turned_alike(way: int) -> None:
    picture = Image.fromarray(PICTURE)
    upright = picture.transpose(TRANSPOSE[way]) if way in TRANSPOSE else picture
    assert np.array_equal(np.asarray(upright), turned(PICTURE, way))


@given(st.integers(0, 10), st.sampled_from("<>"), st.sampled_from([(3, "H"), (4, "I")]))
def test_it_is_found_as_pillow_finds_it(value: int, order: str, kind: tuple[int, str]) -> None:
    head = b"II*\0" if order == "<" else b"MM\0*"
    number = struct.pack(order + kind[1], value).ljust(4, b"\0")
    entries = struct.pack(order + "HHII", 0x0100, 4, 1, 7) + struct.pack(order + "HHI", 0x0112, kind[0], 1) + number
    exif = b"Exif\0\0" + head + struct.pack(order + "IH", 8, 2) + entries + struct.pack(order + "I", 0)
    pillow = Image.Exif()
    pillow.load(exif)
    assert found("JPEG", exif) == (pillow[0x0112] if 1 <= pillow[0x0112] <= 8 else 1)


@given(st.binary(max_size=60), st.sampled_from([b"", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_any_exif_has_an_orientation_and_no_warning(tail: bytes, head: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = Image.new("RGB", (2, 2))
        image.info["exif"] = head + tail
        assert 1 <= orientation(image, b"") <= 8


def test_an_entry_before_the_damage_holds() -> None:
    exif = with_value(6)
    assert found("PNG", exif[:-4]) == 6
