from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage import data as photographs

from preprocessing.decode import decode, read_size
from preprocessing.errors import (
    EmptyPhotoError,
    NotAPhotoError,
    PhotoError,
    PhotoTooLargeError,
    TruncatedPhotoError,
    UnsupportedPhotoError,
)

CAP = 1_000_000
COFFEE: np.ndarray = photographs.coffee()  # [400, 600, 3]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded(image: Image.Image | np.ndarray, fmt: str, **options: object) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, fmt, **options)
    return out.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# How the stored pixels follow from the upright ones, for each orientation of EXIF 2.32.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("fmt", ["PNG", "WEBP"])
def test_every_orientation_comes_out_upright_with_its_alpha(orientation: int, fmt: str) -> None:
    rgba = np.dstack([COFFEE[:60, :90], np.arange(60 * 90, dtype=np.uint32).reshape(60, 90) % 255 + 1]).astype(np.uint8)
    stored = np.ascontiguousarray(STORED[orientation](rgba))
    data = encoded(stored, fmt, exif=oriented(orientation), **({"lossless": True} if fmt == "WEBP" else {}))
    photo = decode(data, max_pixels=CAP)
    assert np.array_equal(photo.rgb, rgba[..., :3])
    assert photo.alpha is not None and np.array_equal(photo.alpha, rgba[..., 3])
    assert read_size(data) == (90, 60)


def test_jpeg_with_rotation_is_upright_and_its_size_known_from_the_header() -> None:
    data = encoded(np.ascontiguousarray(np.rot90(COFFEE)), "JPEG", quality=95, exif=oriented(6))
    assert read_size(data) == (600, 400)
    photo = decode(data, max_pixels=CAP)
    assert photo.rgb.shape == COFFEE.shape and photo.format == "JPEG" and photo.alpha is None
    assert np.abs(photo.rgb.astype(int) - COFFEE).mean() < 4.0


def test_size_is_read_without_the_pixels() -> None:
    data = encoded(COFFEE, "JPEG")
    assert read_size(data[:2000]) == (600, 400)
    with pytest.raises(TruncatedPhotoError):
        decode(data[:2000], max_pixels=CAP)


def test_exif_behind_the_pixels_of_a_png_counts() -> None:
    data = encoded(COFFEE[:40, :60], "PNG")
    exif = oriented(6).tobytes()[6:]
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    data = data[:-12] + chunk + data[-12:]
    assert read_size(data) == (40, 60)
    assert decode(data, max_pixels=CAP).rgb.shape == (60, 40, 3)


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP"])
def test_the_profile_is_kept(fmt: str) -> None:
    assert decode(encoded(COFFEE, fmt, icc_profile=SRGB), max_pixels=CAP).icc == SRGB
    assert decode(encoded(COFFEE, fmt), max_pixels=CAP).icc is None


def test_a_broken_profile_is_dropped() -> None:
    assert decode(encoded(COFFEE, "PNG", icc_profile=b"no profile"), max_pixels=CAP).icc is None


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_file_that_ends_early_is_truncated(fmt: str, share: float) -> None:
    data = encoded(COFFEE, fmt)
    with pytest.raises(TruncatedPhotoError, match="upload it again"):
        decode(data[: int(len(data) * share)], max_pixels=CAP)


@pytest.mark.parametrize("length", [3, 12, 20])
def test_a_file_that_is_only_the_beginning_of_a_header_is_truncated(length: int) -> None:
    with pytest.raises(TruncatedPhotoError):
        decode(encoded(COFFEE, "JPEG")[:length], max_pixels=CAP)


def test_an_empty_file_says_so() -> None:
    with pytest.raises(EmptyPhotoError, match="empty"):
        decode(b"", max_pixels=CAP)
    with pytest.raises(EmptyPhotoError):
        read_size(b"")


@pytest.mark.parametrize("data", [b"sku,prompt\n1,on a table\n", b"%PDF-1.7 ...", b"\0" * 100])
def test_other_files_are_no_photos(data: bytes) -> None:
    with pytest.raises(NotAPhotoError, match="not a photo"):
        decode(data, max_pixels=CAP)


def test_the_cap_is_checked_before_any_pixel_is_decoded() -> None:
    data = encoded(COFFEE, "PNG")
    with pytest.raises(PhotoTooLargeError, match="600 x 400"):
        decode(data[: len(data) // 2], max_pixels=600 * 400 - 1)  # decoding this one would say truncated
    assert decode(data, max_pixels=600 * 400).rgb.shape == COFFEE.shape


def test_a_png_that_claims_a_billion_pixels_is_too_large() -> None:
    data = bytearray(encoded(COFFEE, "PNG"))
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + bytes(data[24:29])
    data[12:33] = header + struct.pack(">I", zlib.crc32(header))
    with pytest.raises(PhotoTooLargeError):
        decode(bytes(data), max_pixels=CAP)


def test_grey_palette_and_bilevel_photos_become_rgb() -> None:
    grey = photographs.camera()[:50, :70]
    expected = np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(decode(encoded(grey, "PNG"), max_pixels=CAP).rgb, expected)
    palette = Image.fromarray(COFFEE).quantize(64)
    assert np.array_equal(decode(encoded(palette, "PNG"), max_pixels=CAP).rgb, np.asarray(palette.convert("RGB")))
    assert set(np.unique(decode(encoded(Image.new("1", (8, 8), 1), "PNG"), max_pixels=CAP).rgb)) == {255}


def test_a_transparent_palette_entry_becomes_alpha() -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    photo = decode(encoded(image, "PNG", transparency=0), max_pixels=CAP)
    assert photo.alpha is not None and photo.alpha.tolist() == [[0, 255], [255, 0]]
    assert photo.rgb[0, 1].tolist() == [0, 0, 255]


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    ramp = (np.arange(256 * 4, dtype=np.uint32) * 64).astype(np.uint16).reshape(32, 32)
    assert np.array_equal(decode(encoded(ramp, "PNG"), max_pixels=CAP).rgb[..., 0], (ramp >> 8).astype(np.uint8))


def test_cmyk_without_a_profile_is_refused_with_the_way_out() -> None:
    with pytest.raises(UnsupportedPhotoError, match=r"CMYK.*save it as RGB"):
        decode(encoded(Image.fromarray(COFFEE).convert("CMYK"), "JPEG"), max_pixels=CAP)


def test_other_formats_and_animations_are_refused_by_name() -> None:
    for kind in ("TIFF", "GIF", "AVIF", "DDS"):
        with pytest.raises(UnsupportedPhotoError, match=kind):
            decode(encoded(COFFEE, kind), max_pixels=CAP)
    frames = [Image.fromarray(COFFEE[:20, :20]), Image.fromarray(COFFEE[20:40, :20])]
    with pytest.raises(UnsupportedPhotoError, match="animation"):
        decode(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]), max_pixels=CAP)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "AVIF", "DDS", "JPEG2000", "BMP"])
def test_no_decoder_of_another_format_is_started(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file of another format was opened")

    data = encoded(COFFEE[:40, :40], kind)
    monkeypatch.setattr(Image, "open", refuse)
    for broken in (data, data[:30], data[: len(data) // 2]):
        with pytest.raises(UnsupportedPhotoError):
            read_size(broken)


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_costs_the_orientation_and_not_the_photo(fmt: str) -> None:
    options = {"lossless": True} if fmt == "WEBP" else {}
    data = encoded(COFFEE[:40, :60], fmt, exif=b"Exif\0\0garbage", **options)
    assert read_size(data) == (60, 40)
    plain = decode(encoded(COFFEE[:40, :60], fmt, **options), max_pixels=CAP)
    assert np.array_equal(decode(data, max_pixels=CAP).rgb, plain.rgb)


@pytest.mark.parametrize(
    "error", [RuntimeError, NotImplementedError, zlib.error, struct.error, ZeroDivisionError, KeyError]
)
def test_whatever_a_decoder_raises_is_a_photo_error(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("from the decoder")

    data = encoded(COFFEE[:40, :40], "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(TruncatedPhotoError):
        decode(data, max_pixels=CAP)
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(TruncatedPhotoError):
        read_size(data)


def test_an_interrupt_is_no_photo_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    data = encoded(COFFEE[:40, :40], "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decode(data, max_pixels=CAP)


def test_memory_that_runs_out_is_a_photo_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    data = encoded(COFFEE[:40, :40], "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(PhotoTooLargeError):
        decode(data, max_pixels=CAP)


def test_an_enormous_webp_canvas_is_refused_before_it_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(encoded(COFFEE[:40, :40], "WEBP", exif=oriented(6)))
    data[24:30] = b"\xff\xff\0" * 2  # 65536 x 65536
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(PhotoTooLargeError):
        read_size(bytes(data))


def test_a_jpeg_of_thousands_of_scans_is_refused_before_they_are_decoded() -> None:
    data = encoded(COFFEE, "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(UnsupportedPhotoError, match="progressive JPEG of 20"):
        decode(data[:-2] + scan * 2000 + b"\xff\xd9", max_pixels=CAP)
    assert decode(data, max_pixels=CAP).rgb.shape == COFFEE.shape


@pytest.mark.parametrize("chunk", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_text_that_inflates_without_end_is_a_photo_error(chunk: bytes) -> None:
    bomb = zlib.compress(b"\0" * 100_000_000, 9)
    body = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[chunk] + bomb
    packed = struct.pack(">I", len(body)) + chunk + body + struct.pack(">I", zlib.crc32(chunk + body))
    data = encoded(COFFEE[:40, :40], "PNG")
    data = data[:33] + packed + data[33:]
    tracemalloc.start()
    try:
        try:
            decode(data, max_pixels=CAP)
        except PhotoError as error:
            assert str(error).endswith(".")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_profile_that_opens_and_cannot_convert_is_dropped() -> None:
    icc = SRGB.replace(b"rTRC", b"xxxx")
    photo = decode(encoded(COFFEE[:40, :40], "PNG", icc_profile=icc), max_pixels=CAP)
    assert photo.icc is None
    assert np.array_equal(photo.rgb, COFFEE[:40, :40])


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x24\0\0\0WEBP"])
)
def test_any_bytes_are_a_photo_or_a_photo_error(tail: bytes, head: bytes) -> None:
    try:
        assert decode(head + tail, max_pixels=CAP).rgb.dtype == np.uint8
    except PhotoError as error:
        assert str(error).endswith(".")


@given(st.data())
def test_a_damaged_photo_is_a_photo_or_a_photo_error(data: st.DataObject) -> None:
    fmt = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    file = bytearray(encoded(COFFEE[:24, :24], fmt))
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decode(bytes(file), max_pixels=CAP).rgb.ndim == 3
    except PhotoError as error:
        assert str(error).endswith(".")
