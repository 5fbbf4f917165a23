"""Depth of the product, as one map of relative nearness.

`DepthEstimator` is the interface, also for a monocular depth model. The built-in `SilhouetteRelief` needs no weights:
it inflates the silhouette, and its name says so, so that its map is not mistaken for a measured depth.
"""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from preprocessing.arrays import F32, U8

_SIDE = 256  # pixels of the longer side at which the silhouette is inflated
_STEP, _BODY, _SLOPE = 0.25, 0.6, 0.15  # shares of the range 0..1


class DepthEstimator(Protocol):
    """Estimates the relative nearness of a product's pixels."""

    @property
    def name(self) -> str:
        """Name and version; part of the cutout recipe, so a new version makes new cutouts."""
        ...

    def estimate(self, rgb: U8, alpha: U8) -> F32:
        """Estimate the nearness of every pixel.

        Args:
            rgb: `[H, W, 3]`, the photo.
            alpha: `[H, W]`, the product's mask.

        Returns:
            `[H, W]` in 0..1; 1 = nearest, 0 outside the product.
        """
        ...


class SilhouetteRelief:
    """Inflates the silhouette to a rounded body that stands on the ground and is seen from slightly above.

    With `t` the distance to the outline over its largest value, the body is a quarter circle, `sqrt(t (2 - t))` (the
    inflation used for sketches since Igarashi et al., "Teddy", SIGGRAPH 1999). A step at the outline is added, which
    keeps thin parts (a handle) visible, and a slope down the bounding box, because the foot of a standing product is
    nearer to a camera above it than its top.

    Scale-consistent: all lengths are relative to the silhouette, and larger products are reduced to 256
    pixels first, so one product gives about the same map at 128 and at 3000 pixels.
    """

    name = "silhouette-relief-1"

    def estimate(self, rgb: U8, alpha: U8) -> F32:
        """See `DepthEstimator.estimate`. The colours are not used; an empty mask gives zeros."""
        x, y, width, height = cv2.boundingRect((alpha >= 128).astype(np.uint8))
        if width == 0:
            return np.zeros(alpha.shape, np.float32)
        crop = alpha[y : y + height, x : x + width]
        factor = min(1.0, _SIDE / max(width, height))
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        relief = _inflate(np.asarray(cv2.resize(crop, small, interpolation=cv2.INTER_AREA), np.uint8))
        depth = np.zeros(alpha.shape, np.float32)
        depth[y : y + height, x : x + width] = cv2.resize(relief, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(depth * (alpha.astype(np.float32) / 255.0), np.float32)


def _inflate(alpha: U8) -> F32:
    inside = np.pad((alpha >= 128).astype(np.uint8), 1)  # the frame of the crop counts as outline
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    t = distance / max(float(distance.max()), 1.0)
    body = np.sqrt(t * (2.0 - t))
    # The distance has a crease along the medial axis that no real body has.
    sigma = 0.02 * max(alpha.shape)
    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), sigma)
    body = cv2.GaussianBlur(body, (0, 0), sigma) / np.maximum(weight, 1e-3)
    slope = np.linspace(0.0, 1.0, alpha.shape[0], dtype=np.float32)[:, None]
    relief = _STEP + _BODY * np.minimum(body[1:-1, 1:-1], 1.0) + _SLOPE * slope
    return np.asarray(relief, np.float32)
