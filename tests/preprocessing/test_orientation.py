from __future__ import annotations

import io

import numpy as np
import pytest
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
