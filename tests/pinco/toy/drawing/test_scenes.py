from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinco.toy.drawing.places import PLACES
from pinco.toy.drawing.products import KINDS, draw_product
from pinco.toy.drawing.scenes import SIZES, Scene, draw_scene, put_on_canvas, shadow_under


def _scene(seed: int, size: tuple[int, int] = (128, 128), **choice: str) -> Scene:
    return draw_scene(np.random.default_rng(seed), size, **choice)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_the_picture_is_the_product_wherever_its_layer_is_opaque(size: tuple[int, int], seed: int) -> None:
    scene = _scene(seed, size)
    assert scene.image.shape == (size[1], size[0], 3)
    assert scene.layer.shape == (size[1], size[0], 4)
    assert scene.image.dtype == scene.layer.dtype == np.uint8
    core = scene.layer[..., 3] == 255
    assert core.sum() > 400
    assert np.array_equal(scene.image[core], scene.layer[core][:, :3])


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_is_the_product_at_the_size_it_stands_in(kind: str) -> None:
    scene = _scene(3, kind=kind)
    alpha = scene.layer[..., 3]
    ys, xs = np.nonzero(alpha)
    tall, wide = ys.max() - ys.min() + 1, xs.max() - xs.min() + 1
    rows, columns = scene.product.rgba.shape[:2]
    assert wide / tall == pytest.approx(columns / rows, rel=0.06)
    assert 0.47 <= max(tall, wide) / 128 <= 0.76
    assert 0.78 <= (ys.max() + 1) / 128 <= 0.95  # it stands on the ground
    covered = (scene.product.rgba[..., 3] / 255).sum() * (tall * wide) / (rows * columns)
    assert (alpha / 255).sum() == pytest.approx(covered, rel=0.04)


def test_the_product_hides_the_place_only_where_its_mask_is() -> None:
    """Two scenes of the same chance but another place differ outside the mask and agree inside."""
    one, other = _scene(5, place="snow"), _scene(5, place="night city")
    alpha = one.layer[..., 3]
    assert np.array_equal(one.layer, other.layer)
    assert np.array_equal(one.image[alpha == 255], other.image[alpha == 255])
    outside = np.abs(one.image.astype(int) - other.image)[alpha == 0].max(-1)
    assert (outside > 10).mean() > 0.95


def test_place_and_kind_can_be_chosen_and_are_recorded() -> None:
    scene = _scene(1, place="sand", kind="lamp")
    assert (scene.place, scene.product.kind) == ("sand", "lamp")
    drawn = [_scene(seed, (64, 64)) for seed in range(40)]
    assert {s.place for s in drawn} == set(PLACES)
    assert {s.product.kind for s in drawn} == set(KINDS)


def test_a_scene_depends_on_the_generator_alone() -> None:
    one, two, other = _scene(8), _scene(8), _scene(9)
    assert np.array_equal(one.image, two.image)
    assert one.caption == two.caption
    assert not np.array_equal(one.image, other.image)


def _block(width: int = 40, height: int = 60) -> np.ndarray:
    alpha = np.zeros((height, width), np.float32)
    alpha[20:45, 12:28] = 1
    return alpha


def test_the_shadow_is_at_the_foot() -> None:
    shade = shadow_under(_block(), 0.6, 0.0)
    assert shade.dtype == np.float32
    assert shade.min() >= 0
    assert 0.5 < shade.max() <= 0.6
    ys, xs = np.nonzero(shade > 0.3)
    assert abs(ys.mean() - 44) < 1
    assert abs(xs.mean() - 19.5) < 1
    assert shade[:35].max() < 0.01


def test_the_shadow_leans_and_scales_with_its_strength() -> None:
    upright, leaning = shadow_under(_block(), 0.6, 0.0), shadow_under(_block(), 0.6, 0.25)
    columns = np.arange(40)
    middle = [(s.sum(0) * columns).sum() / s.sum() for s in (upright, leaning)]
    assert middle[1] - middle[0] == pytest.approx(4, abs=0.6)
    np.testing.assert_allclose(shadow_under(_block(), 0.3, 0.0) * 2, upright, atol=1e-6)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    size=st.sampled_from([*SIZES, (64, 48)]),
    longer=st.floats(2, 48),
    centre=st.floats(-0.5, 1.5),
    base=st.floats(-0.5, 1.5),
)
def test_a_product_is_complete_at_every_position(
    seed: int, size: tuple[int, int], longer: float, centre: float, base: float
) -> None:
    product = draw_product(np.random.default_rng(seed), 32)
    layer = put_on_canvas(product, size, longer, centre, base)
    assert layer.shape == (size[1], size[0], 4)
    ys, xs = np.nonzero(layer[..., 3])
    assert max(ys.max() - ys.min(), xs.max() - xs.min()) + 1 == pytest.approx(max(2, longer), abs=2)


def test_colours_do_not_bleed_at_the_soft_edge() -> None:
    """Straight alpha: a product of one colour keeps it in every pixel that it touches."""
    product = draw_product(np.random.default_rng(0), 90, "box")
    plain = product.rgba.copy()
    plain[..., :3] = (200, 100, 50)
    layer = put_on_canvas(type(product)(plain, "box", "red", "blue"), (64, 64), 31.0, 0.5, 0.8)
    touched = layer[layer[..., 3] > 8][:, :3].astype(int)
    assert np.abs(touched - (200, 100, 50)).max() <= 1
