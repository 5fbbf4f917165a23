from __future__ import annotations

import hashlib
import io
import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage import data as photographs

from preprocessing.cutout import Cutout, CutoutRecipe, cutout_from_bytes, cutout_to_bytes, make_cutout
from preprocessing.depth import SilhouetteRelief
from preprocessing.errors import PhotoTooLargeError, TruncatedPhotoError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
COFFEE: np.ndarray = photographs.coffee()


def coffee_png() -> bytes:
    yy, xx = np.mgrid[:400, :600]
    distance = np.hypot((xx - 300) / 180.0, (yy - 205) / 165.0)
    alpha = np.clip(255 * (1.02 - distance) / 0.04, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.dstack([COFFEE, alpha])).save(out, "PNG", icc_profile=SRGB)
    return out.getvalue()


def same(one: Cutout, other: Cutout) -> bool:
    pixels = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("rgb", "alpha", "depth"))
    rest = [f.name for f in fields(Cutout) if f.name not in ("rgb", "alpha", "depth")]
    return pixels and all(getattr(one, name) == getattr(other, name) for name in rest)


def test_a_photo_with_alpha_keeps_its_bytes_profile_and_origin() -> None:
    data = coffee_png()
    cutout = make_cutout(data)
    seen = cutout.alpha > 0
    assert np.array_equal(cutout.rgb[seen], COFFEE[seen]) and not cutout.rgb[~seen].any()
    assert (cutout.method, cutout.confidence, cutout.icc) == ("alpha", 1.0, SRGB)
    assert cutout.source_sha256 == hashlib.sha256(data).hexdigest()
    assert cutout.size == (600, 400)
    assert cutout.depth[205, 300] > 200 and cutout.depth[0, 0] == 0


def test_a_packshot_s_core_is_the_photo_and_its_edge_has_no_backdrop(mug: Any) -> None:
    cutout = make_cutout(mug.file())
    core = cutout.alpha == 255
    assert core.sum() > 0.9 * mug.truth.sum()
    assert np.array_equal(cutout.rgb[core], mug.rgb[core])
    handle = (cutout.alpha > 0) & ~core
    handle[:, :345] = False
    assert cutout.rgb[handle].max(axis=0)[0] < 60  # the red of white never shows beside blue


def test_boxes(mug: Any) -> None:
    cutout = Cutout.from_pixels(mug.rgb, np.rint(mug.truth * 255).astype(np.uint8))
    x0, y0, x1, y1 = cutout.bbox
    assert abs(x0 - 130) <= 1 and abs(y0 - 110) <= 1 and abs(y1 - 396) <= 1 and 410 < x1 < 425
    faint = cutout.alpha.copy()
    faint[5, 7] = 3
    assert Cutout.from_pixels(mug.rgb, faint).bbox == cutout.bbox
    assert Cutout.from_pixels(mug.rgb, faint).extent[:2] == (7, 5)


def test_making_it_again_gives_the_same_bytes(pair: Any) -> None:
    data = pair.file("JPEG", quality=90)
    assert cutout_to_bytes(make_cutout(data)) == cutout_to_bytes(make_cutout(data))


def test_errors_of_the_photo_are_raised() -> None:
    data = coffee_png()
    with pytest.raises(TruncatedPhotoError):
        make_cutout(data[:5000])
    with pytest.raises(PhotoTooLargeError):
        make_cutout(data, CutoutRecipe(max_pixels=1000))


def test_the_recipe_s_version_changes_with_every_setting() -> None:
    recipe = CutoutRecipe()
    changed = [
        replace(recipe, max_pixels=1),
        replace(recipe, soft_edge=1.0),
        replace(recipe, segment_side=256),
        replace(recipe, depth="other"),
    ]
    assert len(changed) == len(fields(recipe))
    assert len({recipe.version(), *(other.version() for other in changed)}) == 5


def test_the_recipe_s_version_is_the_same_everywhere() -> None:
    assert CutoutRecipe().version() == "7413e1b1c2b1"


def test_another_depth_needs_another_recipe() -> None:
    class Flat(SilhouetteRelief):
        name = "flat-1"

    with pytest.raises(ValueError, match="flat-1"):
        make_cutout(coffee_png(), depth=Flat())
    assert make_cutout(coffee_png(), CutoutRecipe(depth="flat-1"), depth=Flat()).method == "alpha"


def test_pixels_must_fit_their_mask() -> None:
    with pytest.raises(ValueError, match="alpha"):
        Cutout.from_pixels(COFFEE, np.zeros((4, 4), np.uint8))


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
    st.one_of(st.none(), st.binary(max_size=40)),
    st.floats(0, 1),
)
def test_bytes_and_back(height: int, width: int, seed: int, icc: bytes | None, confidence: float) -> None:
    rng = np.random.default_rng(seed)
    cutout = Cutout.from_pixels(
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        rng.integers(0, 256, (height, width), dtype=np.uint8),
        icc=icc,
        confidence=confidence,
        source_sha256="ab" * 32,
    )
    data = cutout_to_bytes(cutout)
    assert same(cutout_from_bytes(data), cutout)
    assert cutout_to_bytes(cutout_from_bytes(data)) == data


@pytest.mark.parametrize("cut", [0, 5, 20, 200, -1])
def test_a_damaged_cutout_is_refused(cut: int) -> None:
    data = cutout_to_bytes(Cutout.from_pixels(COFFEE[:9, :9], np.full((9, 9), 255, np.uint8)))
    with pytest.raises(ValueError):
        cutout_from_bytes(data[:cut])


def test_every_flipped_byte_of_a_file_is_noticed() -> None:
    data = cutout_to_bytes(Cutout.from_pixels(COFFEE[:20, :30], np.full((20, 30), 255, np.uint8)))
    for at in range(len(data)):
        with pytest.raises(ValueError):
            cutout_from_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


HEADER = {"confidence": 1.0, "icc": False, "lengths": [0, 0, 0], "method": "alpha", "source_sha256": ""}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]\n",
        b"{}\n",
        b"[" * 100_000 + b"\n",
        *(json.dumps(HEADER | wrong).encode() + b"\n" for wrong in (
            {},
            {"lengths": []},
            {"lengths": [1, 2]},
            {"lengths": ["a", 0, 0]},
            {"lengths": [-5, 5, 0]},
            {"lengths": [10**30, 0, 0]},
            {"lengths": None},
            {"confidence": "high"},
        )),
    ],
)  # fmt: skip
def test_a_file_made_up_by_somebody_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        cutout_from_bytes(b"pinco-cutout-2\n" + hashlib.sha256(content).digest() + content)


def test_a_picture_that_unpacks_without_end_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    data = cutout_to_bytes(Cutout.from_pixels(COFFEE[:20, :30], np.full((20, 30), 255, np.uint8)))
    with pytest.raises(ValueError, match="its pixels are 30 x 20"):
        cutout_from_bytes(data, max_pixels=599)
    assert cutout_from_bytes(data, max_pixels=600).size == (30, 20)
    start = len(b"pinco-cutout-2\n") + 32
    content = data[start:].replace((30).to_bytes(4, "big") + (20).to_bytes(4, "big"), b"\0\0\x7f\xff" * 2, 1)
    monkeypatch.setattr("preprocessing.cutout.cv2.imdecode", None)
    with pytest.raises(ValueError, match="its pixels are 32767 x 32767"):
        cutout_from_bytes(data[: start - 32] + hashlib.sha256(content).digest() + content)


@pytest.mark.parametrize("chunk", [b"\x7f\xff\xff\xffIDAT", b"\0\0\0\0tEXt", b"\0\0\0\x10IDAT"])
def test_chunks_that_no_cutout_has_are_refused_before_they_are_decoded(
    chunk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cutout_to_bytes(Cutout.from_pixels(COFFEE[:20, :30], np.full((20, 30), 255, np.uint8)))
    start = len(b"pinco-cutout-2\n") + 32
    at = data.index(b"IDAT", start) - 4
    content = data[start:at] + chunk + data[at + 8 :]
    monkeypatch.setattr("preprocessing.cutout.cv2.imdecode", None)
    with pytest.raises(ValueError, match="its pixels are damaged"):
        cutout_from_bytes(data[: start - 32] + hashlib.sha256(content).digest() + content)
