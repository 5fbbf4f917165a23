"""An inpainting pipeline over the backbone's own weights: those of a checkpoint made for it, or that need no others."""

from __future__ import annotations

from typing import ClassVar

from pinco.pipelines.methods.inpainting import Inpainting


class Fill(Inpainting):
    """The background is filled in around the product by the pipeline that the family names for it."""

    name: ClassVar[str] = "fill"
