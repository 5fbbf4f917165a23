"""A cutout: the product of one photo, apart from its background, with its relief. Made once per photo and recipe."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from preprocessing.arrays import U8
from preprocessing.depth import DepthEstimator, SilhouetteRelief


@dataclass(frozen=True)
class Cutout:
    """The product at the photo's own size.

    rgb: `[H, W, 3]`, 0 where alpha is 0; the photo's own bytes where alpha is 255.
    alpha: `[H, W]`; 255 is the core, 1..254 the soft edge.
    depth: `[H, W]`, relative nearness, 255 = nearest.
    icc: the colour profile that rgb is meant in, None for sRGB.
    method, confidence: how the mask was found, and how sure that is, 0..1.
    source_sha256: of the photo file, "" for drawn products.
    """

    rgb: U8
    alpha: U8
    depth: U8
    icc: bytes | None
    method: str
    confidence: float
    source_sha256: str

    @classmethod
    def from_pixels(
        cls,
        rgb: U8,
        alpha: U8,
        *,
        depth: DepthEstimator | None = None,
        icc: bytes | None = None,
        method: str = "drawn",
        confidence: float = 1.0,
        source_sha256: str = "",
    ) -> Cutout:
        """A cutout from pixels and a known mask; the relief is estimated here."""
        if rgb.dtype != np.uint8 or alpha.dtype != np.uint8 or rgb.shape != (*alpha.shape, 3):
            raise ValueError(f"need uint8 rgb [H, W, 3] and alpha [H, W], got {rgb.shape} and {alpha.shape}")
        relief = (depth or SilhouetteRelief()).estimate(rgb, alpha)
        levels = np.asarray(np.rint(relief * 255.0), np.uint8)
        visible = np.where(alpha[..., None] > 0, rgb, np.uint8(0))
        return cls(visible, alpha, levels, icc, method, confidence, source_sha256)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the photo."""
        return self.alpha.shape[1], self.alpha.shape[0]

    @cached_property
    def bbox(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) around all pixels with alpha at least 128; half open."""
        x, y, width, height = cv2.boundingRect((self.alpha >= 128).astype(np.uint8))
        return x, y, x + width, y + height
