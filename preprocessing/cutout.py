"""A cutout: the product of one photo without its background, with a depth map. Made once per photo and recipe."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

import cv2
import numpy as np

from preprocessing.arrays import U8, Bits
from preprocessing.decode import decode
from preprocessing.depth import DepthEstimator, SilhouetteRelief
from preprocessing.mask import find_mask
from preprocessing.packshot.matte import decontaminate

CUTOUT_CODE = 2
"""Raised with every change of this package that changes a cutout, so that cached cutouts are made again."""

_MAGIC = b"pinco-cutout-2\n"


@dataclass(frozen=True)
class CutoutRecipe:
    """Everything that decides a cutout besides the photo.

    Attributes:
        max_pixels: Larger photos are refused by their header.
        soft_edge: Width in pixels of the soft edge given to an outline that has none.
        segment_side: Longer side in pixels of the reduced copy on which a packshot is segmented.
        depth: Name of the depth estimator.
    """

    max_pixels: int = 50_000_000
    soft_edge: float = 2.0
    segment_side: int = 512
    depth: str = SilhouetteRelief.name

    def version(self) -> str:
        """12 hex digits that change with every setting and with `CUTOUT_CODE`."""
        canonical = json.dumps({"code": CUTOUT_CODE, **asdict(self)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Cutout:
    """The product at the photo's own size.

    Attributes:
        rgb: `[H, W, 3]`, 0 where alpha is 0; the photo's own bytes where alpha is 255.
        alpha: `[H, W]`; 255 is the core, 1..254 the soft edge.
        depth: `[H, W]`, relative nearness, 255 = nearest.
        icc: The colour profile of `rgb`; None = sRGB.
        method: How the mask was found: "alpha", "packshot" or "drawn".
        confidence: How sure the mask is, 0..1.
        source_sha256: Of the photo file; "" for drawn products.
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
        """A cutout from pixels and a known mask.

        Args:
            rgb: `[H, W, 3]`.
            alpha: `[H, W]`.
            depth: Estimates the depth map; None = `SilhouetteRelief`.
            icc: See the attributes, like the rest.
            method: How the mask was found.
            confidence: How sure the mask is, 0..1.
            source_sha256: Of the photo file.

        Raises:
            ValueError: The arrays are not uint8, or their shapes do not fit.
        """
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
        return _bounds(self.alpha >= 128)

    @cached_property
    def extent(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) around all pixels with any alpha: the bounding box and its faint surroundings; half open."""
        return _bounds(self.alpha > 0)


def make_cutout(data: bytes, recipe: CutoutRecipe | None = None, *, depth: DepthEstimator | None = None) -> Cutout:
    """Cut the product out of a photo.

    The same bytes, recipe and versions of OpenCV and Pillow give the same cutout. A doubtful mask is not an error: it
    has a low `confidence`.

    Args:
        data: The photo file.
        recipe: The settings; None = the default ones.
        depth: The estimator that the recipe names; None = `SilhouetteRelief`.

    Raises:
        PhotoError: The photo cannot be used.
        ValueError: The estimator is not the one that the recipe names.
    """
    recipe = recipe or CutoutRecipe()
    depth = depth or SilhouetteRelief()
    if depth.name != recipe.depth:
        raise ValueError(f"the recipe asks for depth by {recipe.depth!r}, the given estimator is {depth.name!r}")
    photo = decode(data, max_pixels=recipe.max_pixels)
    mask = find_mask(photo, soft_edge=recipe.soft_edge, side=recipe.segment_side)
    rgb = decontaminate(photo.rgb, mask.alpha) if mask.method == "packshot" else photo.rgb
    return Cutout.from_pixels(
        rgb,
        mask.alpha,
        depth=depth,
        icc=photo.icc,
        method=mask.method,
        confidence=mask.confidence,
        source_sha256=hashlib.sha256(data).hexdigest(),
    )


def cutout_to_bytes(cutout: Cutout) -> bytes:
    """A cutout as a file, lossless and deterministic.

    A line that names the format, the SHA-256 of the rest, a JSON line, the profile and two PNGs (RGBA; depth).
    """
    rgba = np.dstack([cutout.rgb[..., ::-1], cutout.alpha])  # OpenCV writes BGRA
    parts = [cutout.icc or b"", _png(rgba), _png(cutout.depth)]
    header = {
        "confidence": cutout.confidence,
        "icc": cutout.icc is not None,
        "lengths": [len(part) for part in parts],
        "method": cutout.method,
        "source_sha256": cutout.source_sha256,
    }
    content = b"".join([json.dumps(header, sort_keys=True).encode(), b"\n", *parts])
    return b"".join([_MAGIC, hashlib.sha256(content).digest(), content])


def cutout_from_bytes(data: bytes, *, max_pixels: int = CutoutRecipe.max_pixels) -> Cutout:
    """The inverse of `cutout_to_bytes`.

    Args:
        data: The file.
        max_pixels: Width times height at most; a larger one is refused by its header.

    Raises:
        ValueError: The bytes are anything else; a cache then makes the cutout again.
    """
    if not data.startswith(_MAGIC):
        raise ValueError("not a cutout of this version")
    start = len(_MAGIC) + hashlib.sha256().digest_size
    if hashlib.sha256(data[start:]).digest() != data[len(_MAGIC) : start]:
        raise ValueError("the cutout is damaged")
    try:
        return _parsed(data[start:], max_pixels)
    except Exception as error:  # written on purpose, or by other software: the hash is right, and the content is not
        raise ValueError(f"the cutout cannot be read: {error}") from error


def _parsed(content: bytes, max_pixels: int) -> Cutout:
    head, _, body = content.partition(b"\n")
    header = json.loads(head)
    icc_end, rgba_end, depth_end = np.cumsum(header["lengths"], dtype=np.int64).tolist()
    if not 0 <= icc_end <= rgba_end <= depth_end == len(body):
        raise ValueError(f"it has {len(body)} bytes where its header names {depth_end}")
    rgba, depth = _pixels(body[icc_end:rgba_end], max_pixels), _pixels(body[rgba_end:], max_pixels)
    if rgba.ndim != 3 or rgba.shape[2] != 4 or depth.shape != rgba.shape[:2]:
        raise ValueError(f"its pixels are {rgba.shape} and {depth.shape}")
    return Cutout(
        rgb=np.ascontiguousarray(rgba[..., 2::-1]),
        alpha=np.ascontiguousarray(rgba[..., 3]),
        depth=depth,
        icc=body[:icc_end] if header["icc"] else None,
        method=str(header["method"]),
        confidence=float(header["confidence"]),
        source_sha256=str(header["source_sha256"]),
    )


def _bounds(where: Bits) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(where.astype(np.uint8))
    return x, y, x + width, y + height


def _png(pixels: U8) -> bytes:
    _, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return encoded.tobytes()


def _pixels(png: bytes, max_pixels: int) -> U8:
    # OpenCV trusts the lengths that a file names, and allocates what they say: PNG (third edition), 5.3 and 11.2.1.
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    if width * height > max_pixels:
        raise ValueError(f"its pixels are {width} x {height}")
    at = 8
    while at < len(png) and png[at + 4 : at + 8] in (b"IHDR", b"IDAT", b"IEND"):
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    if at != len(png):
        raise ValueError("its pixels are damaged")
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8:
        raise ValueError("its pixels are damaged")
    return np.asarray(pixels, np.uint8)
