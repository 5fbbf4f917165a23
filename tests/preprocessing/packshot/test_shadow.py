from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from preprocessing.packshot.backdrop import estimate_backdrop
from preprocessing.packshot.shadow import edges, ground_of, shadow_like, without_contact_shadow


def scene(product: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A block on rows 40..79 and a shadow that darkens upwards to meet it in row 80."""
    photo = np.full((120, 120, 3), 240, np.uint8)
    photo[80:92] = (240 - 3 * np.arange(12, 0, -1))[:, None, None]
    photo[40:80, 30:90] = product
    truth = np.zeros((120, 120), bool)
    truth[40:80, 30:90] = True
    return photo, truth


def test_a_shadow_is_dark_and_smooth_and_has_the_backdrop_s_hue() -> None:
    photo, truth = scene((200, 60, 40))
    shadow = shadow_like(photo, estimate_backdrop(photo))
    assert shadow[84:90, 40:80].all() and not shadow[truth].any()
    assert edges(photo)[50:70, 29:31].all() and not edges(photo)[84:90, 40:80].any()


def test_the_background_includes_shadows_beside_it_but_not_those_inside() -> None:
    same, shadow = np.ones((40, 40), bool), np.zeros((40, 40), bool)
    same[10:30, 10:30] = False
    shadow[28:30, 10:30] = shadow[18:22, 18:22] = True
    ground = ground_of(same, shadow)
    assert ground[28:30, 12:28].all() and not ground[18:22, 18:22].any() and ground[same].all()


@pytest.mark.parametrize("colour", [(200, 60, 40), (40, 40, 42), (150, 150, 150)])
def test_the_contact_shadow_is_removed_and_the_product_kept(colour: tuple[int, int, int]) -> None:
    photo, truth = scene(colour)
    clinging = truth.copy()
    clinging[80:83, 45:75] = True
    assert np.array_equal(without_contact_shadow(photo, clinging, estimate_backdrop(photo)), truth)


def test_a_light_foot_that_differs_from_its_shadow_stays() -> None:
    photo, truth = scene((40, 150, 60))
    photo[72:80, 30:90] = 228
    left = without_contact_shadow(photo, truth, estimate_backdrop(photo))
    assert (left != truth).sum() <= 2  # the foot's two corners


def test_a_product_without_an_inside_is_not_changed(mug: Any) -> None:
    thin = np.zeros(mug.rgb.shape[:2], bool)
    thin[100:300, 200:202] = True
    assert np.array_equal(without_contact_shadow(mug.rgb, thin, estimate_backdrop(mug.rgb)), thin)
