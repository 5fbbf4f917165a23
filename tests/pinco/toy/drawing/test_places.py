from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinco.toy.drawing.captions import PLACE_PHRASES
from pinco.toy.drawing.places import PLACES, draw_place


def _draw(place: str, seed: int = 0, width: int = 96, height: int = 64, horizon: int = 36) -> np.ndarray:
    return draw_place(np.random.default_rng([seed, 7]), place, width, height, horizon)


@settings(max_examples=60)
@given(
    place=st.sampled_from(sorted(PLACES)),
    width=st.integers(16, 160),
    height=st.integers(16, 160),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 10_000),
)
def test_any_size_and_horizon_gives_a_complete_picture(
    place: str, width: int, height: int, share: float, seed: int
) -> None:
    horizon = min(height - 1, max(1, round(height * share)))
    picture = _draw(place, seed, width, height, horizon)
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.float32
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 255


@pytest.mark.parametrize("place", PLACES)
def test_a_place_depends_on_the_generator_alone(place: str) -> None:
    assert np.array_equal(_draw(place, 1), _draw(place, 1))
    assert not np.array_equal(_draw(place, 1), _draw(place, 2))


@pytest.mark.parametrize("place", PLACES)
def test_the_ground_begins_at_the_horizon(place: str) -> None:
    """With the same chance and another horizon, the steps between rows change at both horizons, not elsewhere."""

    def step_at(row: int, horizon: int) -> np.ndarray:
        rows = np.mean([_draw(place, s, 64, 64, horizon).mean(1) for s in range(8)], axis=0)
        return rows[row + 2 : row + 6].mean(0) - rows[row - 6 : row - 2].mean(0)

    def change(row: int) -> float:
        return float(np.abs(step_at(row, 30) - step_at(row, 50)).sum())

    assert min(change(30), change(50)) > 2 * change(10)


def test_places_can_be_told_apart_by_plain_colour_statistics() -> None:
    def features(place: str, seed: int) -> np.ndarray:
        picture = _draw(place, seed)
        halves = picture[:36], picture[36:]
        return np.concatenate([f for half in halves for f in (half.mean((0, 1)), half.std((0, 1)))])

    names = list(PLACES)
    known = {name: np.mean([features(name, s) for s in range(6)], axis=0) for name in names}
    right = 0
    for name in names:
        for seed in range(6, 12):
            found = features(name, seed)
            right += min(names, key=lambda n: float(np.linalg.norm(known[n] - found))) == name
    assert right / (6 * len(names)) > 0.9


def test_every_place_has_phrases() -> None:
    assert list(PLACE_PHRASES) == list(PLACES)
