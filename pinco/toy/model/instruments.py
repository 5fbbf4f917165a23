"""A measuring instrument, trained on procedural scenes: the place classifier.

It sees the picture with the product blanked out, so that it reads the place alone.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import nn

from pinco.evaluation.segmenter import conv_block, signed
from pinco.weight_files import SafetensorsOnly

# The grey that stands where the product was. Blanking grows the mask by this many pixels, at a shorter side of 128.
BLANK = 128
BLANK_MARGIN = 5


class PlaceClassifier(SafetensorsOnly, ModelMixin, ConfigMixin):
    """A small convolutional network: picture without its product to one of the places."""

    @register_to_config
    def __init__(self, places: tuple[str, ...], channels: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[conv_block(i, o, 2) for i, o in zip((3, *channels[:-1]), channels, strict=True)])
        self.head = nn.Linear(channels[-1], len(places))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, 3, H, W]` in -1..1, product blanked, to logits `[B, places]`."""
        logits: torch.Tensor = self.head(self.blocks(x).mean((2, 3)))
        return logits

    @torch.no_grad()
    def places_of(self, images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Index of the place seen in each picture, uint8 `[N, H, W, 3]` with bool masks `[N, H, W]`."""
        found: NDArray[np.int64] = self(signed(blanked(images, masks))).argmax(1).numpy()
        return found


def blanked(images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The pictures with everything in and near the mask set to neutral grey."""
    reach = max(1, round(BLANK_MARGIN * min(images.shape[1:3]) / 128))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    result = images.copy()
    for image, mask in zip(result, masks, strict=True):
        image[cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)] = BLANK
    return result
