from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data as photographs

from pinco.catalog.delivery.finish import Shadow, contact_shadow, enlarge, finish, layer_to_srgb, over
from preprocessing.canvas import Layer, Placement, place, resample
from preprocessing.colour import convert
from preprocessing.cutout import Cutout

COFFEE: np.ndarray = photographs.coffee()
RAW: np.ndarray = np.ascontiguousarray(photographs.astronaut()[:128, :192])


def cup(size: tuple[int, int] = (600, 400), placement: Placement | None = None) -> Layer:
    yy, xx = np.mgrid[:400, :600]
    distance = np.hypot((xx - 300) / 180.0, (yy - 205) / 165.0)
    alpha = np.clip(255 * (1.02 - distance) / 0.04, 0, 255).astype(np.uint8)
    cutout = Cutout.from_pixels(COFFEE, alpha)
    return resample(cutout, place(cutout, placement or Placement(), size), size)


@pytest.mark.parametrize("shadow", ["none", "contact-1"])
@pytest.mark.parametrize("profiled", [False, True])
def test_the_core_is_the_photo_and_the_rest_is_the_background(
    shadow: Shadow, profiled: bool, exchanged_profile: bytes
) -> None:
    layer = cup()
    final = finish(RAW, layer, icc=exchanged_profile if profiled else None, shadow=shadow)
    core, outside = layer.alpha == 255, layer.alpha == 0
    assert final.shape == (400, 600, 3) and final.dtype == np.uint8
    assert np.array_equal(final[core], COFFEE[core])
    assert (final[outside] != COFFEE[outside]).mean() > 0.9


def test_without_shadow_and_profile_the_background_is_the_enlarged_raw_image() -> None:
    layer = cup()
    outside = layer.alpha == 0
    assert np.array_equal(finish(RAW, layer)[outside], enlarge(RAW, (600, 400))[outside])


def test_the_edge_is_a_blend() -> None:
    layer = Layer(np.full((1, 3, 3), 200, np.uint8), np.array([[0, 51, 255]], np.uint8))
    assert over(layer, np.full((1, 3, 3), 100, np.uint8))[0, :, 0].tolist() == [100, 120, 200]


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_a_blend_is_the_rounded_mean_of_its_two_colours(product: int, ground: int, alpha: int) -> None:
    layer = Layer(np.full((1, 1, 3), product, np.uint8), np.full((1, 1), alpha, np.uint8))
    blend = int(over(layer, np.full((1, 1, 3), ground, np.uint8))[0, 0, 0])
    assert abs(blend - (product * alpha + ground * (255 - alpha)) / 255) <= 0.5 + 1e-9


def test_the_background_is_converted_to_the_photo_s_profile(exchanged_profile: bytes) -> None:
    layer = cup()
    outside = layer.alpha == 0
    plain, converted = finish(RAW, layer)[outside], finish(RAW, layer, icc=exchanged_profile)[outside]
    assert np.abs(converted[:, [1, 0, 2]].astype(int) - plain).max() <= 2  # red and green change places
    assert np.abs(converted.astype(int) - plain).max() > 40


def test_a_channel_that_wants_srgb_gets_the_named_conversion_of_the_product(exchanged_profile: bytes) -> None:
    layer = cup()
    converted = layer_to_srgb(layer, exchanged_profile)
    core = layer.alpha == 255
    assert np.array_equal(converted.alpha, layer.alpha)
    assert np.array_equal(converted.rgb[core], convert(layer.rgb, exchanged_profile, None)[core])
    assert not converted.rgb[layer.alpha == 0].any()
    assert np.array_equal(finish(RAW, converted)[core], converted.rgb[core])


def test_enlarging_keeps_the_size_when_it_fits_and_stretches_when_it_does_not() -> None:
    assert enlarge(RAW, (192, 128)) is RAW
    assert enlarge(RAW, (500, 300)).shape == (300, 500, 3)
    flat = np.full((16, 16, 3), 77, np.uint8)
    assert (enlarge(flat, (131, 97)) == 77).all()


def test_the_shadow_is_under_the_product() -> None:
    alpha = np.zeros((300, 400), np.uint8)
    alpha[60:240, 150:250] = 255
    shadow = contact_shadow(alpha)
    assert shadow.min() >= 0.0 and shadow.max() <= 1.0
    assert shadow[243, 200] > 0.3 and shadow[243, 200] > shadow[255, 200] > shadow[290, 200]
    assert shadow[:150].max() < 0.01 and shadow[243, 20] < 0.02


def test_both_shoes_of_a_pair_have_a_shadow_and_a_handle_in_the_air_has_none() -> None:
    alpha = np.zeros((300, 400), np.uint8)
    alpha[150:240, 40:120], alpha[150:232, 260:340] = 255, 255
    pair = contact_shadow(alpha)
    assert pair[243, 80] > 0.3 and pair[235, 300] > 0.3
    alpha = np.zeros((300, 400), np.uint8)
    alpha[60:240, 100:200], alpha[100:180, 200:300] = 255, 255
    assert contact_shadow(alpha)[183, 290] < 0.05


def test_the_shadow_only_darkens_and_only_near_the_foot() -> None:
    layer = cup((400, 400), Placement("bottom", 0.5))
    without, shaded = finish(RAW, layer), finish(RAW, layer, shadow="contact-1")
    assert (shaded <= without).all() and (shaded < without).any()
    assert np.array_equal(shaded[:150], without[:150])


def test_an_empty_layer_has_no_shadow() -> None:
    assert not contact_shadow(np.zeros((20, 30), np.uint8)).any()


def test_an_unknown_shadow_is_refused() -> None:
    with pytest.raises(ValueError, match="dramatic"):
        finish(RAW, cup(), shadow="dramatic")  # type: ignore[arg-type]


def test_the_same_input_gives_the_same_picture(exchanged_profile: bytes) -> None:
    layer = cup((333, 222), Placement("centre"))
    one, other = (finish(RAW, layer, icc=exchanged_profile, shadow="contact-1") for _ in range(2))
    assert np.array_equal(one, other)
