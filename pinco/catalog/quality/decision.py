"""The status of a picture, decided by its measures and the limits of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class QualityRules:
    """Limits beyond which a person reviews a picture (`review`) or it is not delivered (`reject`).

    Attributes:
        review_confidence: Confidence of the mask below which a picture is reviewed, 0..1.
        review_extension: Extension above which it is reviewed, as a share of the product's area.
        reject_extension: Extension above which it is rejected.
        review_shrinkage: Shrinkage above which it is reviewed, as a share of the product's area.
    """

    review_confidence: float = 0.6
    review_extension: float = 0.3
    reject_extension: float = 1.0
    review_shrinkage: float = 0.3


@dataclass(frozen=True)
class Decision:
    """The status of a picture.

    Attributes:
        status: What the manifest says.
        reason: Why it is not "ok", in sentences for the manifest's reader; "" if it is.
    """

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
    """Decide on one picture.

    Args:
        identical: Whether its core is identical to the photo's.
        confidence: Of the mask, 0..1.
        extension: Share of the product's area; None = not measured, which has no influence.
        shrinkage: Share of the product's area; None = not measured.
        rules: The limits; None = the default ones.
    """
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
