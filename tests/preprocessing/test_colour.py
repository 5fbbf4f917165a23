from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data as photographs

from preprocessing.colour import colour_space, convert, is_target, is_usable, to_srgb

COFFEE: np.ndarray = photographs.coffee()[:128, :192]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile(gamma: float) -> bytes:
    """A grey profile with a power curve (ICC.1:2001-04, 6.3.1.2): header, tag table, white point, curve."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    body = table + white + curve
    header = bytearray(128)
    header[0:4] = struct.pack(">I", 128 + len(body))
    header[8:12], header[12:24], header[36:40] = b"\x02\x10\0\0", b"mntrGRAYXYZ ", b"acsp"
    header[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    return bytes(header) + body


def test_the_colour_space_is_read_from_the_profile() -> None:
    assert colour_space(SRGB) == "RGB"
    assert colour_space(grey_profile(2.2)) == "GRAY"


@pytest.mark.parametrize("icc", [None, b"", b"no profile", SRGB[:100], SRGB.replace(b"RGB XYZ ", b"\xf5GB XYZ ")])
def test_a_missing_or_damaged_profile_has_no_colour_space(icc: bytes | None) -> None:
    assert colour_space(icc) == ""


def test_a_profile_that_opens_may_be_of_no_use() -> None:
    assert is_usable(SRGB) and is_target(SRGB)
    assert is_usable(grey_profile(2.2)) and not is_target(grey_profile(2.2))
    without_curves = SRGB.replace(b"rTRC", b"xxxx")
    assert colour_space(without_curves) == "RGB"
    assert not is_usable(without_curves) and not is_target(without_curves)
    assert not is_usable(b"no profile") and not is_target(b"")


def test_grey_becomes_srgb_by_its_curve() -> None:
    image = Image.fromarray(np.array([[0, 64, 128, 255]], np.uint8))
    linear = np.asarray(to_srgb(image, grey_profile(1.0)))
    assert linear.shape == (1, 4, 3)
    # sRGB's curve (IEC 61966-2-1) lifts linear light: 64/255 reads 137, 128/255 reads 188.
    assert np.abs(linear[0].astype(int) - np.array([[0], [137], [188], [255]])).max() <= 1


def test_a_profile_of_another_colour_space_is_an_error() -> None:
    with pytest.raises(ImageCms.PyCMSError):
        to_srgb(Image.fromarray(COFFEE), grey_profile(2.2))


def test_the_same_profile_changes_nothing(exchanged_profile: bytes) -> None:
    assert convert(COFFEE, None, None) is COFFEE
    assert convert(COFFEE, exchanged_profile, exchanged_profile) is COFFEE


def test_there_and_back_is_about_the_same(exchanged_profile: bytes) -> None:
    exchanged = convert(COFFEE, None, exchanged_profile)
    assert np.abs(exchanged[..., [1, 0, 2]].astype(int) - COFFEE).max() <= 2  # red and green change places
    assert np.abs(convert(exchanged, exchanged_profile, None).astype(int) - COFFEE).max() <= 3


def test_both_ways_of_asking_are_one_conversion(exchanged_profile: bytes) -> None:
    by_image = np.asarray(to_srgb(Image.fromarray(COFFEE), exchanged_profile))
    assert np.array_equal(by_image, convert(COFFEE, exchanged_profile, None))
