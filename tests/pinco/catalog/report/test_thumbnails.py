from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from pinco.catalog.report.thumbnails import thumbnail_uri


def opened(uri: str | None) -> Image.Image:
    assert uri is not None
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def near(pixel: Any, expected: tuple[int, int, int]) -> bool:
    return all(abs(one - other) < 12 for one, other in zip(pixel, expected, strict=True))


def test_it_is_small_and_keeps_its_shape() -> None:
    picture = opened(thumbnail_uri(encoded(Image.new("RGB", (800, 400), "red")), 100))
    assert picture.size == (100, 50)
    assert near(picture.getpixel((50, 25)), (255, 0, 0))


def test_small_pictures_are_not_enlarged() -> None:
    assert opened(thumbnail_uri(encoded(Image.new("RGB", (20, 10))), 100)).size == (20, 10)


def test_it_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert opened(thumbnail_uri(encoded(Image.new("RGB", (80, 40)), "JPEG", exif=exif), 40)).size == (20, 40)


def test_transparency_is_white() -> None:
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 20, 40))
    shown = opened(thumbnail_uri(encoded(picture), 40))
    assert near(shown.getpixel((35, 20)), (255, 255, 255))
    assert near(shown.getpixel((5, 20)), (0, 0, 255))


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "I;16", "LA"])
def test_every_kind_of_picture_is_shown(mode: str) -> None:
    picture = Image.new(mode, (30, 20))
    kind = "TIFF" if mode == "CMYK" else "PNG"
    assert opened(thumbnail_uri(encoded(picture, kind), 40)).size == (30, 20)


def test_colours_are_converted_to_srgb(exchanged_profile: bytes) -> None:
    red = encoded(Image.new("RGB", (9, 9), "red"), icc_profile=exchanged_profile)
    assert near(opened(thumbnail_uri(red, 9)).getpixel((4, 4)), (0, 255, 0))


def test_a_profile_that_does_not_fit_is_ignored() -> None:
    picture = opened(thumbnail_uri(encoded(Image.new("RGB", (9, 9), "red"), icc_profile=b"nonsense"), 9))
    assert near(picture.getpixel((4, 4)), (255, 0, 0))


@pytest.mark.parametrize("data", [b"", b"nothing", encoded(Image.new("RGB", (99, 99), "red"))[:60]])
def test_files_that_are_not_pictures_have_no_thumbnail(data: bytes) -> None:
    assert thumbnail_uri(data, 40) is None
