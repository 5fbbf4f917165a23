from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.depth import DepthEstimator, SilhouetteRelief


def mug_alpha(side: int) -> np.ndarray:
    big = np.zeros((4096, 4096), np.uint8)
    cv2.rectangle(big, (1100, 900), (2700, 3300), 255, -1)
    cv2.ellipse(big, (2700, 2050), (650, 700), 0, 0, 360, 255, 260)
    return cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA)


def relief(alpha: np.ndarray) -> np.ndarray:
    return SilhouetteRelief().estimate(np.zeros((*alpha.shape, 3), np.uint8), alpha)


def test_it_is_a_depth_estimator_with_a_versioned_name() -> None:
    estimator: DepthEstimator = SilhouetteRelief()
    assert estimator.name == "silhouette-relief-1"


def test_range_and_zero_background() -> None:
    alpha = mug_alpha(256)
    depth = relief(alpha)
    assert depth.dtype == np.float32 and depth.shape == alpha.shape
    assert depth[alpha == 0].max() == 0.0
    assert depth[alpha == 255].min() >= 0.2 and 0.9 < depth.max() <= 1.0


def test_the_body_bulges_and_the_foot_is_nearer_than_the_top() -> None:
    depth = relief(mug_alpha(256))
    middle, rim, handle = depth[130, 118], depth[130, 71], depth[130, 209]
    assert middle > rim + 0.3 and middle > handle + 0.2 and handle > 0.25
    assert depth[200, 118] > depth[62, 118]


@pytest.mark.parametrize("side", [128, 512, 3000])
def test_one_product_has_one_map_at_every_size(side: int) -> None:
    reference = relief(mug_alpha(256))
    seen = cv2.resize(relief(mug_alpha(side)), (256, 256), interpolation=cv2.INTER_AREA)
    inside = cv2.erode((mug_alpha(256) == 255).astype(np.uint8), np.ones((5, 5))) > 0
    difference = np.abs(seen - reference)[inside]
    assert difference.mean() < 0.01 and difference.max() < 0.06


def test_an_empty_mask_has_no_relief() -> None:
    assert relief(np.zeros((20, 30), np.uint8)).max() == 0.0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_mask_gives_a_map_in_range(height: int, width: int, seed: int) -> None:
    alpha = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    depth = relief(alpha)
    assert np.isfinite(depth).all() and depth.min() >= 0.0 and depth.max() <= 1.0
