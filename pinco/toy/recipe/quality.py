"""The toy's quality table: 256 held-out product-place pairs, raw output, same seeds for every variant."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pinco.evaluation.metrics import SubjectMeasures, measure_subject, medians
from pinco.evaluation.segmenter import Segmenter
from pinco.generation.builtin import ADAPTER, BACKBONE, CLASSIFIER, SEGMENTER
from pinco.pipelines.loading import load_pipeline
from pinco.toy.drawing.data import HELD_OUT_SEED, SceneSet, draw_scenes
from pinco.toy.model.instruments import PlaceClassifier
from pinco.toy.model.vae import decode, encode, to_signed
from pinco.toy.recipe.encode import canvas_of

U8 = NDArray[np.uint8]

# name -> (with the adapter, latent blending)
VARIANTS: dict[str, tuple[bool, bool]] = {
    "bare": (False, False),
    "bare + blending": (False, True),
    "Pinco": (True, False),
    "Pinco + blending": (True, True),
}


@dataclass(frozen=True)
class Pair:
    """A held-out product, the wanted place, and the drawn scene that shows both.

    Attributes:
        layer: uint8 `[H, W, 4]`, the product.
        scene: uint8 `[H, W, 3]`.
        prompt: names the place.
        place: index into `PLACES`.
        seed: of every variant's picture.
    """

    layer: U8
    scene: U8
    prompt: str
    place: int
    seed: int

    @property
    def alpha(self) -> U8:
        """`[H, W]`."""
        return self.layer[..., 3]


@dataclass(frozen=True)
class Line:
    """One line of the table: a variant and its figures.

    Attributes:
        name: of the variant.
        place: share of pictures on which the prompted place is recognised.
        shuffled: the same share for another pair's prompt, as a control.
        subject: medians over the pictures.
    """

    name: str
    place: float
    shuffled: float
    subject: SubjectMeasures


def held_out_pairs(count: int = 256, workers: int = 1, cache: Path | None = None) -> list[Pair]:
    """Pairs that no training uses, in a fixed order: square, landscape and portrait."""
    sets = draw_scenes(count, HELD_OUT_SEED, workers, cache)

    def pair(scenes: SceneSet, i: int, number: int) -> Pair:
        return Pair(scenes.layer[i], scenes.image[i], str(scenes.caption[i]), int(scenes.place[i]), number)

    rows = [(scenes, i) for scenes in sets.values() for i in range(len(scenes))]
    return [pair(scenes, i, number) for number, (scenes, i) in enumerate(rows)]


def generate(folder: Path, variant: str, pairs: Sequence[Pair]) -> list[U8]:
    """Raw pictures of one variant, made by the pipeline with its default settings."""
    with_adapter, blending = VARIANTS[variant]
    pipeline = load_pipeline(folder / BACKBONE, folder / ADAPTER if with_adapter else None)
    return [
        pipeline.generate(
            pipeline.encode_canvas(canvas_of(p.layer)),
            [pipeline.defaults.request(p.prompt, seed=p.seed, blending=blending)],
        )[0]
        for p in pairs
    ]


def _generate(job: tuple[Path, str, Sequence[Pair]]) -> list[U8]:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return generate(*job)


def round_trip(folder: Path, pairs: Sequence[Pair]) -> list[U8]:
    """The drawn scenes encoded and decoded by the autoencoder: the best that the backbone could reach."""
    vae = load_pipeline(folder / BACKBONE).pipe.vae
    signed = [decode(vae, encode(vae, to_signed(p.scene[None]))) for p in pairs]
    return [((s[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy() for s in signed]


def measure(
    name: str, images: Sequence[U8], pairs: Sequence[Pair], segmenter: Segmenter, judge: PlaceClassifier
) -> Line:
    """Measure one variant's raw pictures.

    The control compares the same pictures with the place of the next pair: the adherence of a model that ignores its
    prompt.

    Args:
        name: of the variant.
        images: `[H, W, 3]` each.
        pairs: what the images were made for.
        segmenter: finds the product in an image.
        judge: recognises the place.
    """
    subjects, right, shuffled = [], [], []
    others = [*pairs[1:], pairs[0]]
    for image, pair, other in zip(images, pairs, others, strict=True):
        found = segmenter.masks(image[None])[0]
        subjects.append(measure_subject(image, found.astype(np.uint8) * 255, pair.layer[..., :3], pair.alpha))
        # Both the true and the generated product are blanked: the place has to be recognised around them.
        place = int(judge.places_of(image[None], (found | (pair.alpha > 0))[None])[0])
        right.append(place == pair.place)
        shuffled.append(place == other.place)
    return Line(name, float(np.mean(right)), float(np.mean(shuffled)), medians(subjects))


def quality_table(
    folder: Path, count: int = 256, workers: int = 1, cache: Path | None = None
) -> tuple[list[Line], dict[str, list[U8]], list[Pair]]:
    """All variants on the same pairs and seeds.

    Args:
        folder: the assembled toy.
        count: held-out pairs.
        workers: processes; one thread each.
        cache: where drawn scenes are kept.

    Returns:
        the table's lines (the drawn scenes and their round trip first), the raw pictures by line, and the pairs.
    """
    pairs = held_out_pairs(count, workers, cache)
    segmenter = Segmenter.from_pretrained(folder / SEGMENTER).eval()
    judge = PlaceClassifier.from_pretrained(folder / CLASSIFIER).eval()
    pictures = {"drawn scenes": [p.scene for p in pairs], "VAE round trip": round_trip(folder, pairs)}
    step = -(-len(pairs) // workers)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for variant in VARIANTS:
            jobs = [(folder, variant, pairs[i : i + step]) for i in range(0, len(pairs), step)]
            pictures[variant] = [image for part in pool.map(_generate, jobs) for image in part]
    lines = [measure(name, images, pairs, segmenter, judge) for name, images in pictures.items()]
    return lines, pictures, pairs
