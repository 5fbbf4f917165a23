from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pinco.evaluation.metrics import SubjectMeasures
from pinco.generation.builtin import BACKBONE
from pinco.pipelines.loading import load_pipeline
from pinco.toy.drawing.data import HELD_OUT_SEED, draw_scenes
from pinco.toy.recipe.quality import VARIANTS, Pair, generate, held_out_pairs, measure, round_trip


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return held_out_pairs(6)


class Segmenter:
    """Finds what it is told to find."""

    def __init__(self, masks: list[np.ndarray]) -> None:
        self.answers = iter(masks)

    def masks(self, images: np.ndarray) -> np.ndarray:
        assert len(images) == 1
        return next(self.answers)[None]


class Judge:
    """Reads the places that it is told to read, and keeps what was blanked."""

    def __init__(self, places: list[int]) -> None:
        self.answers = iter(places)
        self.blanked: list[np.ndarray] = []

    def places_of(self, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        self.blanked.append(masks[0])
        return np.array([next(self.answers)])


def test_pairs_are_held_out_scenes_in_a_fixed_order(pairs: list[Pair]) -> None:
    assert [p.seed for p in pairs] == list(range(6))
    assert [p.scene.shape[:2] for p in pairs] == [(128, 128)] * 4 + [(96, 160), (160, 96)]
    drawn = draw_scenes(6, HELD_OUT_SEED)
    assert np.array_equal(pairs[0].scene, drawn[128, 128].image[0])
    assert np.array_equal(pairs[0].alpha, drawn[128, 128].layer[0, ..., 3])
    assert pairs[5].prompt == drawn[96, 160].caption[0]
    assert pairs[5].place == drawn[96, 160].place[0]


def test_perfect_pictures_measure_perfectly(pairs: list[Pair]) -> None:
    truth = [p.alpha >= 128 for p in pairs]
    line = measure("drawn", [p.scene for p in pairs], pairs, Segmenter(truth), Judge([p.place for p in pairs]))
    assert (line.name, line.place) == ("drawn", 1.0)
    assert line.subject == SubjectMeasures(0.0, 0.0, 99.0)
    others = [*pairs[1:], pairs[0]]
    assert line.shuffled == pytest.approx(np.mean([p.place == o.place for p, o in zip(pairs, others, strict=True)]))


def test_the_control_uses_the_next_pairs_place(pairs: list[Pair]) -> None:
    others = [*pairs[1:], pairs[0]]
    truth = [p.alpha >= 128 for p in pairs]
    line = measure("x", [p.scene for p in pairs], pairs, Segmenter(truth), Judge([o.place for o in others]))
    assert line.shuffled == 1.0
    assert line.place == pytest.approx(np.mean([p.place == o.place for p, o in zip(pairs, others, strict=True)]))


def test_grown_products_count_and_are_blanked_for_the_classifier(pairs: list[Pair]) -> None:
    grown = [np.ones(p.alpha.shape, bool) for p in pairs]
    judge = Judge([-1] * 6)
    line = measure("all product", [p.scene for p in pairs], pairs, Segmenter(grown), judge)
    expected = [(p.alpha < 128).sum() / (p.alpha >= 128).sum() for p in pairs]
    assert line.subject.extension == pytest.approx(np.median(expected))
    assert line.subject.shrinkage == 0
    assert line.place == line.shuffled == 0
    assert all(b.all() for b in judge.blanked)


def test_the_product_is_blanked_even_where_none_is_found(pairs: list[Pair]) -> None:
    judge = Judge([0] * 6)
    nothing = [np.zeros(p.alpha.shape, bool) for p in pairs]
    line = measure("no product", [p.scene for p in pairs], pairs, Segmenter(nothing), judge)
    assert line.subject.shrinkage == 1
    assert all(np.array_equal(b, p.alpha > 0) for b, p in zip(judge.blanked, pairs, strict=True))


def test_variants_differ_in_adapter_and_blending_alone(toy: Path, pairs: list[Pair]) -> None:
    some = [pairs[4]]
    made = {name: generate(toy, name, some)[0] for name in VARIANTS}
    assert all(p.shape == (96, 160, 3) and p.dtype == np.uint8 for p in made.values())
    pictures = [p.tobytes() for p in made.values()]
    assert len(set(pictures)) == 4


def test_round_trip_is_the_autoencoder_and_nothing_else(toy: Path, pairs: list[Pair]) -> None:
    made = round_trip(toy, pairs[3:5])
    assert [m.shape for m in made] == [p.scene.shape for p in pairs[3:5]]
    pipe = load_pipeline(toy / BACKBONE).pipe
    x = pipe.image_processor.preprocess(pairs[4].scene[None].astype(np.float32) / 255)
    decoded = pipe.vae.decode(pipe.vae.encode(x).latent_dist.mode()).sample
    expected = pipe.image_processor.postprocess(decoded.detach(), output_type="np")[0] * 255
    assert np.abs(made[1] - expected).max() <= 1.01
