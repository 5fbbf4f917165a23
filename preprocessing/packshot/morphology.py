"""Morphology of boolean images `[h, w]`: growing, shrinking, filling, components at the border."""

from __future__ import annotations

import cv2
import numpy as np

from preprocessing.arrays import U8, Bits

_CROSS = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)), np.uint8)
_PATCH = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)), np.uint8)


def erode(bits: Bits, steps: int = 1) -> Bits:
    """Shrink by two pixels a step. The photo's border is not an edge: nothing is removed along it."""
    shrunk: U8 = np.asarray(
        cv2.erode(bits.astype(np.uint8), _PATCH, iterations=steps, borderType=cv2.BORDER_REPLICATE), np.uint8
    )
    return shrunk > 0


def dilate(bits: Bits) -> Bits:
    """Grow by one pixel up, down, left and right."""
    return np.asarray(cv2.dilate(bits.astype(np.uint8), _CROSS) > 0)


def rim(bits: Bits) -> Bits:
    """The pixels that have a neighbour outside the mask; the photo's border does not count as outside."""
    inner = cv2.erode(bits.astype(np.uint8), _CROSS, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(bits & (inner == 0))


def close(bits: Bits) -> Bits:
    """Fill gaps of one or two pixels."""
    return np.asarray(cv2.morphologyEx(bits.astype(np.uint8), cv2.MORPH_CLOSE, _CROSS) > 0)


def at_border(bits: Bits) -> Bits:
    """The components, connected by sides, that reach the photo's border."""
    _, regions = cv2.connectedComponents(bits.astype(np.uint8), connectivity=4)
    frame = np.zeros(bits.shape, bool)
    frame[0], frame[-1], frame[:, 0], frame[:, -1] = True, True, True, True
    return np.isin(regions, np.unique(regions[frame & bits]))


def fill(bits: Bits, holes: Bits) -> Bits:
    """Fill the gaps that the border does not reach, except those that overlap one of `holes`."""
    gaps = ~bits & ~at_border(~bits)
    _, regions = cv2.connectedComponents(gaps.astype(np.uint8), connectivity=4)
    return np.asarray(bits | (gaps & ~np.isin(regions, np.unique(regions[gaps & holes]))))
