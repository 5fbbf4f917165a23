"""Known colours extended to pixels whose colour is not known."""

from __future__ import annotations

import cv2
import numpy as np

from preprocessing.arrays import F32, U8


def spread(image: U8 | F32, weight: F32) -> F32:
    """Extend the colours of pixels with weight over the whole image, near ones first.

    Args:
        image: `[h, w, 3]`, some hundred pixels wide, which the distances are made for.
        weight: `[h, w]`, 0 where the colour is not to be used; 0 everywhere uses the mean of all pixels.

    Returns:
        `[h, w, 3]`.
    """
    height, width = weight.shape
    colour, total = image * weight[..., None], weight
    result = np.zeros(image.shape, np.float32)
    known = np.zeros(weight.shape, np.float32)
    for step in (1, 4, 16, 64):  # each level reaches further, at a resolution that keeps this cheap
        size = (max(1, width // step), max(1, height // step))
        wide_colour, wide_total = (_blurred(part, size) for part in (colour, total))
        gain = np.clip(wide_total / 0.05, 0.0, 1.0) * (1.0 - known)
        result += gain[..., None] * (wide_colour / np.maximum(wide_total, 1e-6)[..., None])
        known += gain
    mean = colour.reshape(-1, 3).sum(axis=0) / weight.sum() if weight.any() else image.reshape(-1, 3).mean(axis=0)
    return np.asarray(result + (1.0 - known)[..., None] * mean, np.float32)


def _blurred(part: F32, size: tuple[int, int]) -> F32:
    small = cv2.GaussianBlur(cv2.resize(part, size, interpolation=cv2.INTER_AREA), (0, 0), 1.5)
    return np.asarray(cv2.resize(small, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)
