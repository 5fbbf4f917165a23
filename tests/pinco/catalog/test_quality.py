from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.catalog.quality import QualityRules, core_identical, decide, extension, shrinkage
from preprocessing.canvas import Layer


def rectangle(x0: int, x1: int, level: int = 255) -> np.ndarray:
    mask = np.zeros((10, 100), np.uint8)
    mask[:, x0:x1] = level
    return mask


def layer() -> Layer:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    alpha = np.zeros((6, 8), np.uint8)
    alpha[2:5, 2:6], alpha[1, 2:6] = 255, 120
    return Layer(rgb, alpha)


def test_the_core_counts_and_nothing_else() -> None:
    product = layer()
    final = product.rgb.copy()
    final[product.alpha < 255] ^= 255
    assert core_identical(final, product)
    final[3, 3, 2] ^= 1
    assert not core_identical(final, product)


def test_without_a_core_nothing_is_proven() -> None:
    product = replace(layer(), alpha=np.full((6, 8), 254, np.uint8))
    assert not core_identical(product.rgb, product)


def test_picture_and_layer_must_have_one_size() -> None:
    with pytest.raises(ValueError, match="layer"):
        core_identical(np.zeros((4, 4, 3), np.uint8), layer())


def test_extension_and_shrinkage_are_shares_of_the_product() -> None:
    source = rectangle(20, 60)
    assert extension(source, rectangle(20, 60)) == 0.0 == shrinkage(source, rectangle(20, 60))
    assert extension(source, rectangle(10, 70)) == pytest.approx(0.5)
    assert shrinkage(source, rectangle(30, 70)) == pytest.approx(0.25)
    assert extension(source, rectangle(30, 70)) == pytest.approx(0.25)


def test_the_segmenter_s_own_error_is_subtracted() -> None:
    source, own = rectangle(20, 60), rectangle(22, 64)
    assert extension(source, rectangle(20, 68), own) == pytest.approx(0.2 - 0.1)
    assert shrinkage(source, rectangle(30, 60), own) == pytest.approx(0.25 - 0.05)


def test_half_transparent_pixels_belong_from_the_middle_on() -> None:
    assert extension(rectangle(20, 60, 128), rectangle(20, 60)) == 0.0
    with pytest.raises(ValueError, match="empty"):
        extension(rectangle(20, 60, 127), rectangle(20, 60))


@given(st.integers(0, 2**32 - 1))
def test_areas_add_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, found = (rng.integers(0, 2, (9, 9), dtype=np.uint8) * 255 for _ in range(2))
    source[0, 0] = 255
    area = (source > 0).sum()
    grown = extension(source, found) - shrinkage(source, found)
    assert grown * area == pytest.approx(float((found > 0).sum()) - float(area))


def test_a_good_picture_is_ok_without_a_reason() -> None:
    verdict = decide(identical=True, confidence=1.0, extension=0.02, shrinkage=0.0)
    assert (verdict.status, verdict.reason) == ("ok", "")


def test_what_was_not_measured_does_not_count() -> None:
    assert decide(identical=True, confidence=1.0).status == "ok"


@pytest.mark.parametrize(
    ("measures", "status", "reason"),
    [
        ({"identical": False}, "rejected", "not those of its photo"),
        ({"confidence": 0.3}, "review", "uncertain (30%)"),
        ({"extension": 0.5}, "review", "may have grown: 50%"),
        ({"extension": 1.5}, "rejected", "grew by 150%"),
        ({"shrinkage": 0.5}, "review", "partly covered: 50%"),
    ],
)
def test_each_rule_speaks(measures: dict[str, float], status: str, reason: str) -> None:
    good = {"identical": True, "confidence": 0.95, "extension": 0.0, "shrinkage": 0.0}
    verdict = decide(**{**good, **measures})  # type: ignore[arg-type]
    assert verdict.status == status and reason in verdict.reason


def test_all_reasons_are_given_and_the_worst_decides() -> None:
    verdict = decide(identical=False, confidence=0.1, shrinkage=0.9)
    assert verdict.status == "rejected" and verdict.reason.count(".") >= 3


def test_limits_can_be_moved() -> None:
    strict = QualityRules(review_confidence=0.99, review_extension=0.01)
    assert decide(identical=True, confidence=0.98, rules=strict).status == "review"
    assert decide(identical=True, confidence=1.0, extension=0.02, rules=strict).status == "review"
    assert decide(identical=True, confidence=0.98, extension=0.02).status == "ok"
