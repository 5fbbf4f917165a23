from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data as photographs

from preprocessing.packshot.segment import segment

CERTAIN, REVIEW = 0.8, 0.6


def jpeg(rgb: np.ndarray, quality: int = 85) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(io.BytesIO(out.getvalue())))


def found(shot: Any, rgb: np.ndarray | None = None) -> tuple[float, float, np.ndarray]:
    silhouette = segment(shot.rgb if rgb is None else rgb)
    return shot.iou(silhouette.product.astype(np.uint8) * 255), silhouette.confidence, silhouette.product


def test_a_mug_is_found_without_its_shadow_and_with_the_hole_of_its_handle(mug: Any) -> None:
    iou, confidence, product = found(mug)
    assert iou > 0.99 and confidence > CERTAIN
    assert not product[240, 350:380].any(), "the hole of the handle shows the backdrop"
    assert not product[405:430].any(), "the shadow is not the product"


def test_compression_does_not_remove_the_white_label(mug: Any) -> None:
    iou, confidence, product = found(mug, jpeg(mug.rgb))
    assert iou > 0.99 and confidence > CERTAIN
    assert product[205:295, 165:295].all()


def test_a_blank_label_in_the_backdrop_s_colour_stays_product_but_is_reviewed(blank_label_mug: Any) -> None:
    iou, confidence, product = found(blank_label_mug)
    assert iou > 0.99 and product[205:295, 165:295].all()
    assert confidence < REVIEW


def test_both_parts_of_a_pair_are_kept(pair: Any) -> None:
    iou, confidence, product = found(pair)
    assert iou > 0.98 and confidence > CERTAIN
    assert cv2.connectedComponents(product.astype(np.uint8))[0] - 1 == 2


def test_a_grey_product_is_not_taken_for_its_shadow(grey_mug: Any) -> None:
    iou, confidence, _ = found(grey_mug)
    assert iou > 0.98 and confidence > CERTAIN


def test_white_on_white_has_low_confidence(white_mug: Any) -> None:
    assert found(white_mug)[1] < REVIEW


def test_a_ring_may_be_a_disc_with_a_label(mug: Any) -> None:
    photo = np.full((300, 300, 3), 240, np.uint8)
    cv2.circle(photo, (150, 150), 100, (60, 140, 70), -1, cv2.LINE_AA)
    cv2.circle(photo, (150, 150), 40, (240, 240, 240), -1, cv2.LINE_AA)
    assert segment(photo).confidence < REVIEW


def test_a_photo_without_a_backdrop_gets_a_guess_of_confidence_zero() -> None:
    silhouette = segment(photographs.coffee())
    assert silhouette.confidence < 0.2
    assert silhouette.product[200, 300] and 0.1 < silhouette.product.mean() < 0.7
    assert cv2.connectedComponents((~silhouette.product).astype(np.uint8), connectivity=4)[0] - 1 == 1, "no holes"


def test_the_backdrop_alone_has_no_product() -> None:
    silhouette = segment(np.full((100, 120, 3), 240, np.uint8))
    assert not silhouette.product.any() and silhouette.confidence == 0.0


def test_specks_are_not_components(mug: Any) -> None:
    photo = mug.rgb.copy()
    photo[30:33, 30:33] = 60
    assert not segment(photo).product[25:38, 25:38].any()


def test_the_same_photo_has_the_same_silhouette(pair: Any) -> None:
    first = segment(pair.rgb)
    cv2.setRNGSeed(1234)
    second = segment(pair.rgb)
    assert np.array_equal(first.product, second.product) and first.confidence == second.confidence


@pytest.mark.parametrize("quality", [95, 85, 70])
def test_compression_does_not_fill_the_hole_of_a_handle(mug: Any, quality: int) -> None:
    assert not found(mug, jpeg(mug.rgb, quality))[2][225:255, 350:375].any()
