"""Training of the instruments on warped, blurred and recoloured scenes, which resemble generated pictures."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pinco.evaluation.segmenter import Segmenter, signed
from pinco.toy.drawing.data import SceneSet, Sets
from pinco.toy.model.instruments import PlaceClassifier, blanked
from preprocessing.blend import over_neutral


def augment(
    rng: np.random.Generator, image: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Warp picture and mask alike (generated products are seldom straight), then blur the picture, add tint and noise.

    Args:
        rng: the only source of randomness.
        image: `[H, W, 3]`.
        mask: `[H, W]`.
    """
    height, width = mask.shape
    if rng.random() < 0.6:
        knots = rng.uniform(-1, 1, (2, 5, 5)).astype(np.float32) * rng.uniform(1, 9)
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        x += cv2.resize(knots[0], (width, height), interpolation=cv2.INTER_CUBIC)
        y += cv2.resize(knots[1], (width, height), interpolation=cv2.INTER_CUBIC)
        image = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        mask = cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    picture = image.astype(np.float32)
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.8))
    tint = rng.uniform(-14, 14, 3).astype(np.float32)
    picture = (picture - 128) * np.float32(rng.uniform(0.8, 1.2)) + 128 + tint
    if rng.random() < 0.4:
        blotches = rng.standard_normal((height // 8, width // 8, 3)).astype(np.float32) * rng.uniform(2, 10)
        picture = picture + cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = picture + rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0, 5))
    return np.clip(picture, 0, 255).astype(np.uint8), mask


class _Scenes:
    """Augmented batches for both instruments."""

    def __init__(self, train: Sets, neutral_share: float = 0.0) -> None:
        self._train, self._neutral_share = train, neutral_share

    def draw(
        self, count: int, generator: torch.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
        sizes = list(self._train)
        scenes = self._train[sizes[int(torch.randint(len(sizes), (1,), generator=generator))]]
        chosen = torch.randint(len(scenes), (count,), generator=generator).numpy()
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        pairs = [augment(rng, self._picture(rng, scenes, i), scenes.layer[i, ..., 3]) for i in chosen]
        return np.stack([p for p, _ in pairs]), np.stack([m for _, m in pairs]), scenes.place[chosen]

    def _picture(self, rng: np.random.Generator, scenes: SceneSet, i: int) -> NDArray[np.uint8]:
        """The scene, or sometimes its product on neutral grey, which the instruments have to segment too."""
        if self._neutral_share and rng.random() < self._neutral_share:
            return over_neutral(scenes.layer[i, ..., :3], scenes.layer[i, ..., 3])
        return np.asarray(scenes.image[i])


class SegmenterTask:
    """Binary cross entropy plus soft Dice (`pinco.training.loop.Task`)."""

    def __init__(self, model: Segmenter, train: Sets, held_out: Sets) -> None:
        self.model, self._scenes, self._held_out = model, _Scenes(train, neutral_share=0.15), held_out

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": list(self.model.named_parameters()), "lr": learning_rate}]

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        images, masks, _ = self._scenes.draw(batch_size, generator)
        logits = self.model(signed(images))
        target = torch.from_numpy(masks).float().div_(255)[:, None]
        p = logits.sigmoid()
        dice = 1 - (2 * (p * target).sum((1, 2, 3)) + 1) / (p.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
        return F.binary_cross_entropy_with_logits(logits, target) + 0.3 * dice.mean(), {}

    def validate(self) -> dict[str, float]:
        """Mean intersection over union on held-out scenes."""
        return {"iou": float(np.mean(segmenter_ious(self.model, self._held_out)))}


class ClassifierTask:
    """Cross entropy over the places (`pinco.training.loop.Task`)."""

    def __init__(self, model: PlaceClassifier, train: Sets, held_out: Sets) -> None:
        self.model, self._scenes, self._held_out = model, _Scenes(train), held_out

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": list(self.model.named_parameters()), "lr": learning_rate}]

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        images, masks, places = self._scenes.draw(batch_size, generator)
        logits = self.model(signed(blanked(images, masks > 0)))
        return F.cross_entropy(logits, torch.from_numpy(places), label_smoothing=0.05), {}

    def validate(self) -> dict[str, float]:
        """Accuracy on held-out scenes with their product blanked."""
        right = [self.model.places_of(s.image, s.layer[..., 3] > 0) == s.place for s in self._held_out.values()]
        return {"accuracy": float(np.concatenate(right).mean())}


def segmenter_ious(model: Segmenter, sets: Sets) -> NDArray[np.float64]:
    """Intersection over union of every scene with its exact mask."""
    found = []
    for scenes in sets.values():
        truth = scenes.layer[..., 3] > 127
        masks = np.concatenate([model.masks(scenes.image[i : i + 64]) for i in range(0, len(scenes), 64)])
        found.append((truth & masks).sum((1, 2)) / np.maximum((truth | masks).sum((1, 2)), 1))
    return np.concatenate(found)
