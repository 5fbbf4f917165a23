"""Which pixels are product: by the photo's own alpha if it cuts something out, else by the packshot's silhouette."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.arrays import U8
from preprocessing.decode import Photo
from preprocessing.errors import NoProductFoundError
from preprocessing.packshot.matte import refine, soften
from preprocessing.packshot.segment import segment


@dataclass(frozen=True)
class Mask:
    """Which pixels are product.

    Attributes:
        alpha: `[H, W]`; 255 is product, 0 is not, values between are edge.
        confidence: 0..1.
        method: "alpha" or "packshot".
    """

    alpha: U8
    confidence: float
    method: str


def find_mask(photo: Photo, *, soft_edge: float = 2.0, side: int = 512) -> Mask:
    """Find the product in a photo.

    A low confidence is a valid result (white on white, a product in a room): the mask is then the best guess, for a
    person to review.

    Args:
        photo: The decoded photo.
        soft_edge: Width in pixels of the soft edge given to an outline that has none.
        side: Longer side in pixels of the reduced copy on which a packshot is segmented.

    Raises:
        NoProductFoundError: The photo is transparent everywhere, or nothing in it differs from the backdrop.
    """
    if photo.alpha is not None and photo.alpha.max() < 128:
        raise NoProductFoundError("The photo is transparent everywhere. Please upload one that shows the product.")
    if photo.alpha is not None and _meaningful(photo.alpha):
        binary = not ((photo.alpha > 0) & (photo.alpha < 255)).any()
        alpha = soften(photo.alpha, soft_edge) if binary else photo.alpha
        return Mask(alpha, 1.0 if (alpha == 255).any() else 0.5, "alpha")

    height, width = photo.rgb.shape[:2]
    factor = min(1.0, side / max(height, width))
    reduced = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = np.asarray(cv2.resize(photo.rgb, reduced, interpolation=cv2.INTER_AREA), np.uint8)
    silhouette = segment(small)
    alpha = soften(refine(photo.rgb, silhouette.product, small), soft_edge)
    if not (alpha >= 128).any():
        raise NoProductFoundError(
            "No product stands out from the backdrop. Please upload a photo with more contrast, or a PNG whose "
            "background is transparent."
        )
    return Mask(alpha, silhouette.confidence, "packshot")


def _meaningful(alpha: U8) -> bool:
    """Whether transparency cuts something out: it is not absent, and not only rounded corners of the photo."""
    return float((alpha < 128).mean()) > 0.005
