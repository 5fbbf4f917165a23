from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data as photographs

from preprocessing.decode import Photo
from preprocessing.errors import NoProductFoundError
from preprocessing.mask import find_mask

COFFEE: np.ndarray = photographs.coffee()


def photo(rgb: np.ndarray, alpha: np.ndarray | None = None) -> Photo:
    return Photo(rgb, alpha, None, "PNG")


def cup_alpha() -> np.ndarray:
    big = np.zeros((1600, 2400), np.uint8)
    cv2.ellipse(big, (1200, 820), (700, 640), 0, 0, 360, 255, -1)
    return cv2.resize(big, (600, 400), interpolation=cv2.INTER_AREA)


def test_the_photo_s_own_alpha_is_taken_as_it_is() -> None:
    alpha = cup_alpha()
    mask = find_mask(photo(COFFEE, alpha))
    assert mask.method == "alpha" and mask.confidence == 1.0
    assert np.array_equal(mask.alpha, alpha)


def test_a_hard_alpha_gets_a_soft_edge_inwards() -> None:
    hard = np.where(cup_alpha() >= 128, 255, 0).astype(np.uint8)
    mask = find_mask(photo(COFFEE, hard), soft_edge=2.0)
    assert (mask.alpha <= hard).all() and ((mask.alpha > 0) & (mask.alpha < 255)).any()
    assert np.array_equal(find_mask(photo(COFFEE, hard), soft_edge=0.0).alpha, hard)


def test_an_alpha_without_a_solid_pixel_has_low_confidence() -> None:
    assert find_mask(photo(COFFEE, cup_alpha() // 5 * 4)).confidence < 0.6


def test_an_alpha_that_cuts_nothing_out_is_ignored(mug: Any) -> None:
    alpha = np.full(mug.rgb.shape[:2], 255, np.uint8)
    alpha[:3, :3] = 0  # rounded corners of the photo
    mask = find_mask(photo(mug.rgb, alpha))
    assert mask.method == "packshot" and mug.iou(mask.alpha) > 0.99


def test_a_packshot_at_full_size_matches_its_truth(mug: Any) -> None:
    mask = find_mask(photo(mug.rgb), soft_edge=0.0)
    assert mask.confidence > 0.8
    assert np.abs(mask.alpha / 255.0 - mug.truth).sum() < 0.01 * mug.truth.sum()


def test_a_large_photo_is_segmented_small_and_refined_large(mug: Any) -> None:
    large = cv2.resize(mug.rgb, (2000, 1800), interpolation=cv2.INTER_CUBIC)
    truth = cv2.resize(mug.truth, (2000, 1800), interpolation=cv2.INTER_LINEAR)
    mask = find_mask(photo(large))
    found, true = mask.alpha >= 128, truth >= 0.5
    assert (found & true).sum() / (found | true).sum() > 0.995
    assert not found[960, 1400:1500].any()


def test_a_room_gets_a_guess_with_low_confidence() -> None:
    mask = find_mask(photo(COFFEE))
    assert mask.method == "packshot" and mask.confidence < 0.2 and (mask.alpha == 255).any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (90, 120)])
def test_a_photo_without_a_product_is_an_error_that_names_the_way_out(shape: tuple[int, int]) -> None:
    with pytest.raises(NoProductFoundError, match="transparent"):
        find_mask(photo(np.full((*shape, 3), 230, np.uint8)))


def test_a_wholly_transparent_photo_is_an_error() -> None:
    with pytest.raises(NoProductFoundError, match="transparent everywhere"):
        find_mask(photo(COFFEE, np.zeros((400, 600), np.uint8)))


def test_the_hole_of_a_thick_handle_is_see_through_and_certain(studio_mug: Any) -> None:
    mask = find_mask(photo(studio_mug.rgb))
    assert studio_mug.iou(mask.alpha) > 0.97 and mask.confidence > 0.8
    assert not mask.alpha[240:260, 345:375].any()


@pytest.mark.parametrize("name", ["studio_bottle", "studio_mug", "studio_box", "studio_shoe", "studio_watch"])
def test_the_contact_shadow_is_not_part_of_the_product(name: str, request: pytest.FixtureRequest) -> None:
    shot = request.getfixturevalue(name)
    mask = find_mask(photo(shot.rgb))
    assert (mask.alpha[396:] >= 128).sum() < 0.002 * (shot.truth >= 0.5).sum()


def test_a_blank_label_off_the_backdrop_s_colour_stays_opaque(studio_box: Any) -> None:
    mask = find_mask(photo(studio_box.rgb))
    assert studio_box.iou(mask.alpha) > 0.99 and (mask.alpha[222:298, 182:318] == 255).all()
    assert mask.confidence > 0.6


def test_a_light_sole_is_not_taken_for_its_shadow(studio_shoe: Any) -> None:
    mask = find_mask(photo(studio_shoe.rgb))
    assert studio_shoe.iou(mask.alpha) > 0.985 and (mask.alpha[366:391, 126:374] == 255).all()


def test_white_print_is_not_a_hole(studio_watch: Any) -> None:
    mask = find_mask(photo(studio_watch.rgb))
    assert studio_watch.iou(mask.alpha) > 0.99 and mask.confidence > 0.8
    assert (mask.alpha[165:390, 155:345] == 255).all()


def test_a_part_taken_for_a_shadow_lowers_the_confidence(studio_lamp: Any) -> None:
    mask = find_mask(photo(studio_lamp.rgb))
    assert studio_lamp.iou(mask.alpha) < 0.9, "the stem was lost"
    assert mask.confidence < 0.6
