"""What is checked on every image, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from preprocessing.arrays import U8
from preprocessing.canvas import Layer


def core_identical(final: U8, layer: Layer) -> bool:
    """Whether the final picture `[H, W, 3]` holds the product's bytes wherever the layer's alpha is 255.

    `layer` must come from the source again, not from the picture's own making, for this to prove anything. A product
    without a single opaque pixel has no core to compare: False.
    """
    if final.shape != layer.rgb.shape:
        raise ValueError(f"the picture is {final.shape}, the product's layer {layer.rgb.shape}")
    core = layer.alpha == 255
    return bool(core.any()) and bool(np.array_equal(final[core], layer.rgb[core]))


def extension(source_alpha: U8, segmented: U8, segmented_source: U8 | None = None) -> float:
    """How far the subject grew past its mask, as a share of its area (arXiv 2404.10157, section 4).

    `(area(m_out U m_in) - area(m_in)) / area(m_in)`, on the raw image before the product is pasted back.

    source_alpha: the canvas's alpha `[h, w]`. segmented: mask `[h, w]` that a segmenter, which never saw the alpha,
    finds in the raw image. segmented_source: what it finds in the source canvas; its own error, subtracted. The
    result can be slightly negative then.
    """
    value = _share(~_bits(source_alpha) & _bits(segmented), source_alpha)
    return value if segmented_source is None else value - extension(source_alpha, segmented_source)


def shrinkage(source_alpha: U8, segmented: U8, segmented_source: U8 | None = None) -> float:
    """How much of the subject was lost: `area(m_in - m_out) / area(m_in)`. Arguments as for `extension`."""
    value = _share(_bits(source_alpha) & ~_bits(segmented), source_alpha)
    return value if segmented_source is None else value - shrinkage(source_alpha, segmented_source)


def _bits(mask: U8) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray(mask >= 128)


def _share(part: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], source_alpha: U8) -> float:
    area = int(_bits(source_alpha).sum())
    if area == 0:
        raise ValueError("the source mask is empty, there is no area to relate to")
    return float(part.sum() / area)


@dataclass(frozen=True)
class QualityRules:
    """Limits beyond which a picture is looked at by a person (`review`) or kept out (`reject`).

    Shares of the product's area for extension and shrinkage; confidence of the mask, 0..1.
    """

    review_confidence: float = 0.6
    review_extension: float = 0.3
    reject_extension: float = 1.0
    review_shrinkage: float = 0.3


@dataclass(frozen=True)
class Decision:
    """The status of a picture, and why it is not "ok": sentences for the manifest's reader, "" if it is."""

    status: Literal["ok", "review", "rejected"]
    reason: str


def decide(
    *,
    identical: bool,
    confidence: float,
    extension: float | None = None,
    shrinkage: float | None = None,
    rules: QualityRules | None = None,
) -> Decision:
    """Judge one picture. A measure that was not taken (None) neither clears nor blames it."""
    rules = rules or QualityRules()
    rejected, review = [], []
    if not identical:
        rejected.append("The product's pixels in the picture are not those of its photo.")
    if extension is not None and extension > rules.reject_extension:
        rejected.append(f"The product grew by {extension:.0%} of its area in the generated image.")
    elif extension is not None and extension > rules.review_extension:
        review.append(f"The product may have grown: {extension:.0%} of its area lies outside its outline.")
    if shrinkage is not None and shrinkage > rules.review_shrinkage:
        review.append(f"The product may be partly covered: {shrinkage:.0%} of it was not found again.")
    if confidence < rules.review_confidence:
        review.append(
            f"The product's outline in the photo is uncertain ({confidence:.0%}). A photo on a plain backdrop of "
            "another colour, or a PNG whose background is transparent, helps."
        )
    status: Literal["ok", "review", "rejected"] = "rejected" if rejected else "review" if review else "ok"
    return Decision(status, " ".join(rejected + review))
