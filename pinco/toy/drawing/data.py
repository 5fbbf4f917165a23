"""Sets of drawn scenes. Each scene depends on (seed, index) alone, so that any part can be drawn again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pinco.toy.drawing.places import PLACES
from pinco.toy.drawing.products import COLOURS, KINDS
from pinco.toy.drawing.scenes import SIZES, draw_scene

# Training and held-out scenes never share a seed; the quality table is measured on HELD_OUT_SEED only.
TRAIN_SEED = 20_001
INSTRUMENT_SEED = 40_001
HELD_OUT_SEED = 90_001

_CHUNK = 100


@dataclass(frozen=True)
class SceneSet:
    """Scenes of one size.

    Attributes:
        image: uint8 `[N, H, W, 3]`.
        layer: uint8 `[N, H, W, 4]`, the product alone, straight alpha.
        place: int64 `[N]`, index into `PLACES`.
        kind: int64 `[N]`, index into `KINDS`.
        colour: int64 `[N]`, index into `COLOURS`.
        caption: str `[N]`.
    """

    image: NDArray[np.uint8]
    layer: NDArray[np.uint8]
    place: NDArray[np.int64]
    kind: NDArray[np.int64]
    colour: NDArray[np.int64]
    caption: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.image)


Sets = Mapping[tuple[int, int], SceneSet]
"""Scenes by size (width, height)."""


def size_of(index: int) -> tuple[int, int]:
    """(width, height) of a scene: three of five are square, one is landscape, one is portrait."""
    return SIZES[max(0, index % 5 - 2)]


def _draw(job: tuple[int, int, int]) -> list[tuple[tuple[int, int], SceneSet]]:
    cv2.setNumThreads(1)
    seed, start, stop = job
    places, kinds, colours = list(PLACES), list(KINDS), list(COLOURS)
    drawn = [(size_of(i), draw_scene(np.random.default_rng([seed, i]), size_of(i))) for i in range(start, stop)]
    parts = []
    for size in SIZES:
        mine = [scene for its_size, scene in drawn if its_size == size]
        if mine:
            parts.append(
                (
                    size,
                    SceneSet(
                        np.stack([s.image for s in mine]),
                        np.stack([s.layer for s in mine]),
                        np.array([places.index(s.place) for s in mine]),
                        np.array([kinds.index(s.product.kind) for s in mine]),
                        np.array([colours.index(s.product.colour) for s in mine]),
                        np.array([s.caption for s in mine]),
                    ),
                )
            )
    return parts


def _join(parts: list[SceneSet]) -> SceneSet:
    return SceneSet(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(SceneSet)))


def draw_scenes(count: int, seed: int, workers: int = 1, cache: Path | None = None) -> dict[tuple[int, int], SceneSet]:
    """Draw `count` scenes, grouped by size (width, height), in index order.

    Args:
        count: how many, over all sizes.
        seed: decides, with the index alone, a scene.
        workers: processes to draw with; the result does not depend on it.
        cache: folder in which a finished set is kept as one `.npz` file.
    """
    file = cache / f"scenes-{seed}-{count}.npz" if cache else None
    if file and file.exists():
        return dict(_load(file))
    jobs = [(seed, start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            drawn = [part for parts in pool.map(_draw, jobs) for part in parts]
    else:
        drawn = [part for job in jobs for part in _draw(job)]
    sets = {
        size: _join([part for its_size, part in drawn if its_size == size])
        for size in SIZES
        if any(its_size == size for its_size, _ in drawn)
    }
    if file:
        _save(file, sets)
    return sets


def _save(file: Path, sets: dict[tuple[int, int], SceneSet]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{w}x{h}.{f.name}": getattr(s, f.name) for (w, h), s in sets.items() for f in fields(SceneSet)}
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, **arrays)
    partial.replace(file)


def _load(file: Path) -> Iterator[tuple[tuple[int, int], SceneSet]]:
    with np.load(file, allow_pickle=False) as arrays:
        for width, height in SIZES:
            names = [f"{width}x{height}.{f.name}" for f in fields(SceneSet)]
            if names[0] in arrays:
                yield (width, height), SceneSet(*(arrays[name] for name in names))
