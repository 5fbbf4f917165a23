from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from pinco.toy.drawing import data
from pinco.toy.drawing.captions import PLACE_PHRASES
from pinco.toy.drawing.data import HELD_OUT_SEED, INSTRUMENT_SEED, TRAIN_SEED, SceneSet, Sets, draw_scenes, size_of
from pinco.toy.drawing.places import PLACES
from pinco.toy.drawing.scenes import SIZES, draw_scene


def _same(one: Sets, other: Sets) -> None:
    assert list(one) == list(other)
    for size in one:
        for field in fields(SceneSet):
            first, second = getattr(one[size], field.name), getattr(other[size], field.name)
            assert first.dtype == second.dtype
            assert np.array_equal(first, second), field.name


def test_a_scene_depends_on_its_seed_and_index_alone(sets: Sets) -> None:
    counts = dict.fromkeys(SIZES, 0)
    for index in range(10):
        size = size_of(index)
        scene = draw_scene(np.random.default_rng([5, index]), size)
        row = counts[size]
        counts[size] += 1
        assert np.array_equal(sets[size].image[row], scene.image)
        assert np.array_equal(sets[size].layer[row], scene.layer)
        assert sets[size].caption[row] == scene.caption
        assert list(PLACES)[sets[size].place[row]] == scene.place
    assert counts == {size: len(s) for size, s in sets.items()} == {(128, 128): 6, (160, 96): 2, (96, 160): 2}


def test_neither_chunks_nor_workers_matter(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_CHUNK", 4)
    _same(draw_scenes(10, seed=5), sets)
    _same(draw_scenes(10, seed=5, workers=2), sets)


def test_more_scenes_begin_with_the_same_ones(sets: Sets) -> None:
    for size, scenes in draw_scenes(5, seed=5).items():
        assert np.array_equal(scenes.image, sets[size].image[: len(scenes)])


def test_a_set_too_small_for_all_sizes_has_only_the_ones_it_fills() -> None:
    assert list(draw_scenes(2, seed=1)) == [(128, 128)]


def test_the_cache_returns_the_drawn_scenes(sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deep" / "cache"
    _same(draw_scenes(10, seed=5, cache=folder), sets)
    assert [p.name for p in folder.iterdir()] == ["scenes-5-10.npz"]

    def refuse(job: tuple[int, int, int]) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(data, "_draw", refuse)
    _same(draw_scenes(10, seed=5, cache=folder), sets)
    with pytest.raises(AssertionError, match="drawn again"):
        draw_scenes(10, seed=6, cache=folder)
    with pytest.raises(AssertionError, match="drawn again"):
        draw_scenes(9, seed=5, cache=folder)


def test_an_incomplete_cache_file_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = np.savez

    def crash(file: Path, **arrays: np.ndarray) -> None:
        real(file, **dict(list(arrays.items())[:2]))
        raise KeyboardInterrupt

    monkeypatch.setattr(data.np, "savez", crash)
    with pytest.raises(KeyboardInterrupt):
        draw_scenes(2, seed=5, cache=tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "scenes-5-2.npz").exists()
    _same(draw_scenes(2, seed=5, cache=tmp_path), draw_scenes(2, seed=5))


def test_training_validation_and_held_out_scenes_are_disjoint() -> None:
    seeds = (TRAIN_SEED, INSTRUMENT_SEED, HELD_OUT_SEED)
    assert len(set(seeds)) == 3
    pictures = [i.tobytes() for seed in seeds for s in draw_scenes(5, seed).values() for i in s.image]
    assert len(set(pictures)) == 15


def test_three_of_five_are_square_one_is_landscape_one_is_portrait() -> None:
    assert [size_of(i) for i in range(5)] == [(128, 128)] * 3 + [(160, 96), (96, 160)]
    assert [size_of(i + 5) for i in range(5)] == [size_of(i) for i in range(5)]


def test_captions_name_the_place(sets: Sets) -> None:
    names = list(PLACES)
    for scenes in sets.values():
        for text, place in zip(scenes.caption, scenes.place, strict=True):
            assert any(phrase in str(text) for phrase in PLACE_PHRASES[names[place]])
