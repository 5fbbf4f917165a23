"""A measuring instrument: the product segmenter. It sees only the picture, never the mask it is compared with."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import nn

from pinco.weight_files import SafetensorsOnly


def signed(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 `[N, H, W, 3]` to float32 `[N, 3, H, W]` in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def conv_block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Two 3 x 3 convolutions; the first may halve the size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1),
        nn.GroupNorm(4, outputs),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, 1, 1),
        nn.GroupNorm(4, outputs),
        nn.SiLU(),
    )


class Segmenter(SafetensorsOnly, ModelMixin, ConfigMixin):
    """A small U-Net: picture to the probability that a pixel is product."""

    @register_to_config
    def __init__(self, channels: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        self.down = nn.ModuleList([conv_block(i, o, 2) for i, o in zip((3, *channels[:-1]), channels, strict=True)])
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.up = nn.ModuleList([conv_block(deep + flat, flat) for deep, flat in pairs])
        self.out = nn.Conv2d(channels[0], 4, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, 3, H, W]` in -1..1, sides multiples of 16, to logits `[B, 1, H, W]`."""
        kept = []
        for block in self.down:
            x = block(x)
            kept.append(x)
        x = kept.pop()
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="bilinear"), kept.pop()], 1))
        # Four half-resolution channels become the four pixels of each 2 x 2 square.
        return F.pixel_shuffle(self.out(x), 2)

    @torch.no_grad()
    def segment(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Product mask of one picture: uint8 `[H, W, 3]` to uint8 `[H, W]`, 0 or 255. Any size; judged at 128 px."""
        height, width = rgb.shape[:2]
        scale = 128 / np.sqrt(height * width)
        small = tuple(max(16, round(side * scale / 16) * 16) for side in (width, height))
        logits = self(signed(cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)[None]))[0, 0].numpy()
        whole = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
        mask: NDArray[np.uint8] = (whole > 0).astype(np.uint8) * 255
        return mask

    @torch.no_grad()
    def masks(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Product masks of a batch at working size: uint8 `[N, H, W, 3]` to bool `[N, H, W]`."""
        found: NDArray[np.bool_] = (self(signed(images))[:, 0] > 0).numpy()
        return found
