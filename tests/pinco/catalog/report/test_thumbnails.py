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
    kind = "JPEG" if mode == "CMYK" else "PNG"
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


@pytest.mark.parametrize("kind", ["TIFF", "AVIF", "DDS", "GIF"])
def test_only_formats_of_photos_are_opened(kind: str) -> None:
    assert thumbnail_uri(encoded(Image.new("RGB", (40, 40), "red"), kind), 40) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_is_no_reason_to_show_nothing(kind: str) -> None:
    data = encoded(Image.new("RGB", (80, 40), "red"), kind, exif=b"Exif\0\0garbage")
    assert opened(thumbnail_uri(data, 40)).size == (40, 20)


def test_exif_that_pillow_cannot_write_back_is_no_reason_to_show_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "ab"
    data = exif.tobytes().replace(b"\x01\x0e\0\x02", b"\x01\0\0\x02")  # the width, which is a number, as a text
    assert opened(thumbnail_uri(encoded(Image.new("RGB", (80, 40)), "JPEG", exif=data), 40)).size == (20, 40)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, MemoryError, ZeroDivisionError])
def test_whatever_a_decoder_raises_is_a_missing_picture(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("from the decoder")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    assert thumbnail_uri(encoded(Image.new("RGB", (40, 40))), 40) is None


def test_the_pictures_own_comment_is_not_copied() -> None:
    data = encoded(Image.new("RGB", (40, 40)), "JPEG", comment=b"not for the public")
    body = str(thumbnail_uri(data, 40)).partition(",")[2]
    assert b"not for the public" not in base64.b64decode(body)
