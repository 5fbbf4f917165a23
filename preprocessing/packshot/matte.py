"""From a silhouette at reduced size to a soft edge at the photo's size, and edge colours without the backdrop."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.arrays import F32, U8, Bits
from preprocessing.packshot.spread import spread

Index: TypeAlias = NDArray[np.int64]


def refine(rgb: U8, product: Bits, small: U8) -> U8:
    """Alpha of a photo from its silhouette at reduced size.

    Only pixels within one and a half reduced pixels of the outline are computed. Each is taken as a mix
    `I = a F + (1 - a) B` of the product's and the background's colours nearby, and `a` is the projection of `I - B` on
    `F - B`. Where the two colours hardly differ, the silhouette itself decides.

    Args:
        rgb: `[H, W, 3]`, the photo.
        product: `[h, w]`, the silhouette.
        small: `[h, w, 3]`, the reduced photo.

    Returns:
        `[H, W]`.
    """
    bits = product.astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    inner = cv2.erode(bits, kernel, borderType=cv2.BORDER_REPLICATE)
    outer = cv2.dilate(bits, kernel)
    size = (rgb.shape[1], rgb.shape[0])
    alpha = np.asarray(cv2.resize(bits * 255, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    alpha = np.asarray(cv2.resize(inner * 255, size, interpolation=cv2.INTER_NEAREST), np.uint8) | alpha
    band = cv2.resize(outer - inner, size, interpolation=cv2.INTER_NEAREST) > 0
    alpha[~band] = np.where(alpha[~band] >= 128, 255, 0)

    rows, columns = np.nonzero(band)
    if len(rows) == 0:
        return alpha
    at = ((columns + 0.5) * (small.shape[1] / size[0]) - 0.5, (rows + 0.5) * (small.shape[0] / size[1]) - 0.5)
    front = _sample(spread(small, inner.astype(np.float32)), at)
    ground = _sample(spread(small, 1.0 - outer.astype(np.float32)), at)
    step = front - ground
    length = np.linalg.norm(step, axis=1)
    share = ((rgb[rows, columns] - ground) * step).sum(axis=1) / np.maximum(length, 1e-3) ** 2
    share = np.clip((share - 0.08) / 0.84, 0.0, 1.0)  # almost pure product or background counts as pure
    shape = alpha[rows, columns].astype(np.float32) / 255.0
    trust = np.clip((length - 12.0) / 24.0, 0.0, 1.0)
    alpha[rows, columns] = np.rint(255.0 * (trust * share + (1.0 - trust) * shape)).astype(np.uint8)
    return alpha


def soften(alpha: U8, width: float) -> U8:
    """Soften the outline inwards, never past it, where the backdrop begins. A soft edge is hardly changed.

    Args:
        alpha: `[H, W]`.
        width: Of the soft edge, in pixels; 0 changes nothing.
    """
    if width <= 0.0:
        return alpha
    blurred = cv2.GaussianBlur(alpha, (0, 0), width / 2.0, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(np.minimum(alpha, blurred), np.uint8)


def decontaminate(rgb: U8, alpha: U8) -> U8:
    """Give every soft-edge pixel (alpha 1..254) the colour of the nearest product pixel two pixels inside the core.

    The core's own bytes are returned as they are. Parts too thin for that take the nearest core pixel.

    Args:
        rgb: `[H, W, 3]`.
        alpha: `[H, W]`.
    """
    core = alpha == 255
    rows, columns = np.nonzero((alpha > 0) & ~core)
    if len(rows) == 0 or not core.any():
        return rgb
    deep = cv2.erode(core.astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_REPLICATE) > 0
    result = rgb.copy()
    far = np.ones(len(rows), bool)
    if deep.any():
        distance, nearest = _nearest(deep, rows, columns)
        # Deep pixels further away belong to another part of the product: a thin part's own core is nearer in colour.
        far = distance > max(12.0, 0.005 * max(alpha.shape))
        result[rows[~far], columns[~far]] = rgb.reshape(-1, 3)[nearest[~far]]
    if far.any():
        _, nearest = _nearest(core, rows[far], columns[far])
        result[rows[far], columns[far]] = rgb.reshape(-1, 3)[nearest]
    return result


def _nearest(where: Bits, rows: Index, columns: Index) -> tuple[F32, Index]:
    """For each of the given pixels, the distance to and the flat index of the nearest true pixel."""
    distance, label = cv2.distanceTransformWithLabels(
        (~where).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    index = np.zeros(int(label.max()) + 1, np.int64)
    index[label[where]] = np.flatnonzero(where)
    return np.asarray(distance[rows, columns], np.float32), index[label[rows, columns]]


def _sample(image: F32, at: tuple[NDArray[np.float64], NDArray[np.float64]]) -> F32:
    x, y = (axis.astype(np.float32) for axis in at)
    width = 1 << 14  # remap wants a map of at most 32767 columns
    padding = -len(x) % width
    grid = [np.pad(axis, (0, padding)).reshape(-1, width) for axis in (x, y)]
    values = cv2.remap(image, grid[0], grid[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(values.reshape(-1, 3)[: len(x)], np.float32)
