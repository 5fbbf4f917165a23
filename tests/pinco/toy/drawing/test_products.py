from __future__ import annotations

import numpy as np
import pytest

from pinco.toy.drawing import products
from pinco.toy.drawing.products import COLOURS, KINDS, Product, Tile, draw_product

ALL = [(kind, colour) for kind in KINDS for colour in COLOURS]


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """The drawing boards of the products drawn in this test."""
    seen: list[Tile] = []
    shrink = products._shrink

    def watch(tile: Tile, side: int) -> np.ndarray:
        seen.append(tile)
        return shrink(tile, side)

    monkeypatch.setattr(products, "_shrink", watch)
    return seen


def _draw(kind: str, colour: str | None = None, seed: int = 0, height: int = 48) -> Product:
    return draw_product(np.random.default_rng(seed), height, kind, colour)


@pytest.mark.parametrize(("kind", "colour"), ALL)
def test_every_kind_in_every_colour_is_drawn_and_cropped_to_itself(kind: str, colour: str) -> None:
    product = _draw(kind, colour)
    alpha = product.rgba[..., 3]
    assert (product.kind, product.colour) == (kind, colour)
    assert product.rgba.dtype == np.uint8
    assert product.rgba.shape[2] == 4
    assert 24 <= max(alpha.shape) <= 48
    for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
        assert edge.any()
    assert (alpha == 255).mean() > 0.25  # there is a core to keep untouched
    assert product.accent in COLOURS
    assert product.accent != colour


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_alpha_is_the_exact_share_of_the_drawn_silhouette(kind: str, seed: int, tiles: list[Tile]) -> None:
    product = _draw(kind, seed=seed)
    drawn = tiles[0].alpha
    assert set(np.unique(drawn)) == {0, 255}
    side = len(drawn) // 48
    shares = drawn.reshape(48, side, 48, side).mean((1, 3))
    ys, xs = np.nonzero(shares)
    cropped = shares[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    np.testing.assert_allclose(product.rgba[..., 3], cropped, atol=0.51)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_painted_outside_the_silhouette(kind: str, seed: int, tiles: list[Tile]) -> None:
    _draw(kind, seed=seed)
    outside = tiles[0].alpha == 0
    assert outside.any()
    assert not tiles[0].rgb[outside].any()


def test_paint_and_lines_never_widen_the_product() -> None:
    tile = Tile(60)
    tile.fill(tile.ellipse(0.5, 0.5, 0.2, 0.2), np.array((10, 20, 30), np.float32))
    before = tile.alpha.copy()
    accent = np.array((200, 0, 0), np.float32)
    tile.paint(tile.y > 0.5, accent)
    tile.line((0, 0.4), (1, 0.4), accent, 0.05)
    assert np.array_equal(tile.alpha, before)
    assert not tile.rgb[before == 0].any()
    assert (tile.rgb[30:][before[30:] > 0] == accent).all()


@pytest.mark.parametrize(("kind", "colour"), [(kind, colour) for kind in KINDS for colour in ("red", "blue", "green")])
def test_the_body_has_its_named_colour(kind: str, colour: str) -> None:
    rgba = _draw(kind, colour, seed=1).rgba
    core = rgba[rgba[..., 3] == 255][:, :3].astype(float)
    wanted = np.array(COLOURS[colour], float)
    likeness = core @ wanted / (np.linalg.norm(core, axis=1) * np.linalg.norm(wanted) + 1e-9)
    assert (likeness > 0.98).mean() > 0.2


def test_a_product_depends_on_the_generator_alone() -> None:
    for kind in KINDS:
        one, two, other = _draw(kind, seed=3), _draw(kind, seed=3), _draw(kind, seed=4)
        assert np.array_equal(one.rgba, two.rgba)
        assert (one.colour, one.accent) == (two.colour, two.accent)
        assert one.rgba.shape != other.rgba.shape or not np.array_equal(one.rgba, other.rgba)


def test_everything_is_drawn_in_about_equal_shares_when_left_open() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_product(rng, 16) for _ in range(240)]
    for names, chosen in ((KINDS, [p.kind for p in drawn]), (COLOURS, [p.colour for p in drawn])):
        counts = [chosen.count(name) for name in names]
        assert min(counts) > 0.5 * len(drawn) / len(names)


def test_a_large_photo_shows_the_same_product() -> None:
    small, large = _draw("bottle", "red", seed=2, height=100), _draw("bottle", "red", seed=2, height=400)
    assert max(large.rgba.shape[:2]) == pytest.approx(4 * max(small.rgba.shape[:2]), abs=6)
    shares = [(p.rgba[..., 3] / 255).mean() for p in (small, large)]
    assert shares[0] == pytest.approx(shares[1], abs=0.03)
