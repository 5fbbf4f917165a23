"""A sheet over real photographs and over files that are none."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from pinco.catalog.manifest.schema import Row

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_running")]


def sideways_jpeg(upright: np.ndarray[Any, Any]) -> bytes:
    """As a phone held upright writes it: the pixels lie on their side, EXIF orientation 6 says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Image.fromarray(np.rot90(upright)).save(out, "JPEG", quality=95, exif=exif)
    return out.getvalue()


def cup_with_alpha(coffee: np.ndarray[Any, Any]) -> bytes:
    alpha = np.zeros(coffee.shape[:2], np.uint8)
    cv2.ellipse(alpha, (300, 200), (190, 150), 0, 0, 360, 255, -1, cv2.LINE_AA)
    out = io.BytesIO()
    Image.fromarray(np.dstack([coffee, alpha])).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, open_shop: Callable[[Path], Any]) -> dict[str, Row]:
    shop = open_shop(tmp_path_factory.mktemp("real"))
    coffee = data.coffee()
    rotated = sideways_jpeg(coffee)
    photos = {
        "rotated.jpg": rotated,
        "cup.png": cup_with_alpha(coffee),
        "truncated.jpg": rotated[: len(rotated) // 3],
        "empty.png": b"",
        "letter.jpg": b"Dear photographer, attached is the photo.",
    }
    for name, content in photos.items():
        (Path(shop.catalog) / name).write_bytes(content)
    skus = [name.partition(".")[0] for name in photos]
    summary = shop.run(
        shop.sheet([{"sku": sku, "prompt": "a cup on a wooden table", "channel": "source"} for sku in skus])
    )
    assert summary.error is None
    found = shop.rows()
    assert sorted(row.sku for row in found) == sorted(skus), "one row each, whatever the photo was"
    return {row.sku: row for row in found}


@pytest.mark.parametrize("sku", ["rotated", "cup"])
def test_a_photograph_is_delivered_at_its_own_size_with_an_identical_core(rows: dict[str, Row], sku: str) -> None:
    row = rows[sku]
    assert row.status in ("ok", "review", "rejected"), row.error_message
    picture = Image.open(str(row.image_uri))
    assert picture.size == (600, 400), "upright, as the photographer saw it"
    assert row.core_identical is True


def test_the_cup_in_the_picture_is_the_cup_in_the_photo_byte_for_byte(rows: dict[str, Row]) -> None:
    picture = np.asarray(Image.open(str(rows["cup"].image_uri)))
    source = np.asarray(Image.open(rows["cup"].source_uri))
    core = source[..., 3] == 255
    assert core.mean() > 0.3
    np.testing.assert_array_equal(picture[core], source[core][:, :3])
    assert not np.array_equal(picture[~core], source[~core][:, :3])


@pytest.mark.parametrize(
    ("sku", "error_type"), [("truncated", "truncated_photo"), ("empty", "empty_photo"), ("letter", "not_a_photo")]
)
def test_a_broken_photo_fails_with_a_sentence_for_a_marketer(rows: dict[str, Row], sku: str, error_type: str) -> None:
    row = rows[sku]
    assert (row.status, row.error_type, row.transient) == ("failed", error_type, False)
    assert str(row.error_message).endswith((".", "?")) and " " in str(row.error_message)
    for word in ("Error", "Traceback", "PIL", "cv2", "/"):
        assert word not in str(row.error_message)
    assert row.image_uri is None
