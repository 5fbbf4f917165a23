from __future__ import annotations

import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from preprocessing.open_picture import open_picture

ENDS_EARLY = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff\0"
"""EXIF data whose only entry is cut short."""


def jpeg(exif: bytes) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(out, "JPEG", exif=exif)
    return out.getvalue()


def test_damaged_exif_warns_nobody(recwarn: pytest.WarningsRecorder) -> None:
    data = jpeg(ENDS_EARLY)
    with open_picture(data, "JPEG") as picture:
        assert picture.size == (30, 20)
    assert recwarn.list == []
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        Image.open(io.BytesIO(data))


def test_very_many_pixels_warn_nobody(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    open_picture(jpeg(b""), "JPEG").close()
    assert recwarn.list == []


def test_only_the_named_format_is_tried() -> None:
    with pytest.raises(Image.UnidentifiedImageError):
        open_picture(jpeg(b""), "PNG")


def test_threads_leave_the_filters_of_the_process_as_they_were() -> None:
    before, data = list(warnings.filters), jpeg(ENDS_EARLY)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: open_picture(data, "JPEG").close(), range(400)))
    assert list(warnings.filters) == before
