from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from preprocessing.file_kind import READABLE, file_kind, jpeg_scans, webp_canvas


def encoded(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "name"),
    [*((kind, kind) for kind in (*READABLE, "TIFF", "GIF", "BMP", "AVIF", "DDS")), ("JPEG2000", "JPEG 2000")],
)
def test_formats_are_known_by_their_first_bytes(kind: str, name: str) -> None:
    assert file_kind(encoded(kind)[:1000]) == name


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", ""),
        (b"BMW,red\n", ""),
        (b"RIFF\0\0\0\0WAVE", ""),
        (b'<?xml version="1.0"?><svg xmlns="x">', "SVG"),
        (b"", ""),
    ],
)
def test_other_files(data: bytes, name: str) -> None:
    assert file_kind(data) == name


def test_scans_are_counted() -> None:
    assert jpeg_scans(encoded("JPEG")) == 1
    progressive = encoded("JPEG", progressive=True)
    assert 2 < jpeg_scans(progressive) < 20
    body = progressive.rindex(b"\xff\xda")
    assert jpeg_scans(progressive[:-2] + progressive[body:-2] * 500 + b"\xff\xd9") == jpeg_scans(progressive) + 500


def test_what_stands_in_metadata_or_behind_the_end_is_no_scan() -> None:
    exif = b"Exif\0\0" + b"\xff\xda\0\x02" * 200
    assert jpeg_scans(encoded("JPEG", exif=exif) + b"\xff\xda\0\x02" * 200) == 1


@given(st.binary())
def test_any_bytes_have_a_count(data: bytes) -> None:
    assert 0 <= jpeg_scans(b"\xff\xd8\xff" + data) <= len(data)


def test_the_canvas_of_an_extended_webp() -> None:
    assert webp_canvas(encoded("WEBP", exif=Image.Exif().tobytes() + b"x")) == (256, 256)
    assert webp_canvas(encoded("WEBP")) is None
    assert webp_canvas(b"RIFF\0\0\0\0WEBPVP8X") is None
