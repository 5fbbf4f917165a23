"""A canvas, encoded: what all images of it share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pinco.adapter import Subject
from preprocessing.canvas import Canvas


@dataclass(frozen=True)
class EncodedCanvas:
    """Made once per canvas by a pipeline's `encode_canvas`. What its method does not need is `None`.

    Attributes:
        size: Width and height in pixels.
        method: Name of the method that it was encoded for, and that makes its images.
        canvas: What was encoded.
        subject: Subject tokens with the keys and values of all layers.
        clean: Latents of the product on a ground, laid out as the pipeline's latents; only for blending.
        mask: The product's share of each value of `clean`.
    """

    size: tuple[int, int]
    method: str
    canvas: Canvas
    subject: Subject | None = None
    clean: Tensor | None = None
    mask: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of everything that lies on the device."""
        tensors = [tensor for tensor in (self.clean, self.mask) if tensor is not None]
        if self.subject is not None:
            pairs = (self.subject.cache or {}).values()
            tensors += [self.subject.tokens, *(half for pair in pairs for half in pair or ())]
        return sum(tensor.nbytes for tensor in tensors)


def check_size(canvas: Canvas, multiple: int) -> tuple[int, int]:
    """Width and height of the canvas.

    Args:
        canvas: The canvas.
        multiple: Pixels per token along one side.

    Raises:
        ValueError: Its arrays differ in size, or a side is no multiple of `multiple`.
    """
    height, width = canvas.alpha.shape
    shapes = {canvas.image.shape[:2], canvas.alpha.shape, canvas.depth.shape, canvas.sobel.shape}
    if len(shapes) > 1:
        raise ValueError(f"the canvas's image and maps differ in size: {sorted(shapes)}")
    if width % multiple or height % multiple or not width * height:
        raise ValueError(
            f"a canvas of {width} x {height} pixels does not fit the backbone: both sides must be multiples of "
            f"{multiple} (preprocessing.canvas.working_size chooses such a size)"
        )
    return width, height


def image_tensor(canvas: Canvas) -> Tensor:
    """The product on its ground as the VAE takes it: `[1, 3, H, W]` float32 in -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(canvas.image)).permute(2, 0, 1)[None]
    return pixels.float() / 127.5 - 1


def map_tensor(canvas: Canvas) -> Tensor:
    """Mask, depth and Sobel map as the extractor takes them: `[1, 3, H, W]` float32 in 0..1."""
    maps = np.stack((canvas.alpha, canvas.depth, canvas.sobel))
    return torch.from_numpy(maps)[None].float() / 255
