from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pinco.evaluation.segmenter import Segmenter
from pinco.toy.drawing.data import Sets
from pinco.toy.drawing.places import PLACES
from pinco.toy.model.instruments import PlaceClassifier
from pinco.toy.recipe.instrument_tasks import ClassifierTask, SegmenterTask, augment, segmenter_ious
from pinco.training.config import TrainingConfig
from pinco.training.loop import train


def _disc() -> np.ndarray:
    rows, columns = np.mgrid[:96, :128]
    return (((rows - 40) ** 2 + (columns - 50) ** 2) < 25**2).astype(np.uint8) * 255


@pytest.mark.parametrize("seed", range(24))
def test_picture_and_mask_are_warped_alike(seed: int) -> None:
    mask = _disc()
    picture, bent = augment(np.random.default_rng(seed), np.repeat(mask[..., None], 3, axis=2), mask)
    assert picture.shape == (96, 128, 3)
    assert picture.dtype == bent.dtype == np.uint8
    one, other = picture.mean(-1) > 128, bent > 127
    assert (one & other).sum() / (one | other).sum() > 0.95


def test_augmentation_warps_flips_and_recolours() -> None:
    mask = _disc()
    image = np.full((96, 128, 3), 128, np.uint8)
    drawn = [augment(np.random.default_rng(seed), image, mask) for seed in range(30)]
    changed = [not np.array_equal(m, mask) for _, m in drawn]
    assert 0.5 < np.mean(changed) < 0.95
    assert any(np.array_equal(m, mask[:, ::-1]) for _, m in drawn)
    assert len({p.tobytes() for p, _ in drawn}) == 30
    assert all(abs(float(p.mean()) - 128) < 20 for p, _ in drawn)


def test_augmentation_keeps_its_inputs_and_depends_on_the_generator_alone() -> None:
    mask, image = _disc(), np.full((96, 128, 3), 90, np.uint8)
    one, two = (augment(np.random.default_rng(3), image, mask) for _ in range(2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])
    assert (image == 90).all()
    assert np.array_equal(mask, _disc())


def _settings(steps: int) -> TrainingConfig:
    return TrainingConfig(steps, 6, 1e-2, warmup_steps=2, ema_decay=0.5, checkpoint_every=1000, validate_every=0)


def test_the_segmenter_learns(sets: Sets, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = SegmenterTask(Segmenter(channels=(8, 8, 8, 8)), sets, sets)
    before = task.validate()["iou"]
    first = _mean_loss(task)
    after = train(task, _settings(20), tmp_path).validation["iou"]
    assert _mean_loss(task) < 0.8 * first
    assert after > before + 0.1


def test_the_classifier_learns(sets: Sets, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = ClassifierTask(PlaceClassifier(tuple(PLACES), channels=(8, 8, 8, 8)), sets, sets)
    first = _mean_loss(task)
    after = train(task, _settings(25), tmp_path).validation
    assert _mean_loss(task) < 0.9 * first
    assert 0 <= after["accuracy"] <= 1


def _mean_loss(task: SegmenterTask | ClassifierTask) -> float:
    with torch.no_grad():
        return float(np.mean([task.loss(0, 6, torch.Generator().manual_seed(s))[0].item() for s in range(3)]))


class _KnowAll:
    """Finds the truth that it was told, cut down to its upper half where asked."""

    def __init__(self, sets: Sets, half: bool = False) -> None:
        self.truth = {s.image[i].tobytes(): (s.layer[i], s.place[i]) for s in sets.values() for i in range(len(s))}
        self.half = half

    def masks(self, images: np.ndarray) -> np.ndarray:
        found = np.stack([self.truth[i.tobytes()][0][..., 3] > 127 for i in images])
        if self.half:
            found[:, found.shape[1] // 2 :] = False
        return found

    def places_of(self, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        places = np.array([self.truth[i.tobytes()][1] for i in images])
        for image, mask in zip(images, masks, strict=True):
            assert np.array_equal(mask, self.truth[image.tobytes()][0][..., 3] > 0)
        return np.where(np.arange(len(places)) == 0, (places + 1) % 8, places)


def test_iou_of_known_answers(sets: Sets) -> None:
    assert segmenter_ious(_KnowAll(sets), sets).tolist() == [1.0] * 10
    halves = segmenter_ious(_KnowAll(sets, half=True), sets)
    expected = []
    for scenes in sets.values():
        truth = scenes.layer[..., 3] > 127
        expected += (truth[:, : truth.shape[1] // 2].sum((1, 2)) / truth.sum((1, 2))).tolist()
    assert halves.tolist() == pytest.approx(expected)


def test_accuracy_of_known_answers(sets: Sets) -> None:
    """The stand-in reads the first scene of each of the three sizes wrongly."""
    task = ClassifierTask(_KnowAll(sets), sets, sets)
    assert task.validate() == {"accuracy": pytest.approx(7 / 10)}
