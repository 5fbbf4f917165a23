"""An inpainting ControlNet beside a text-to-image backbone (Zhang et al., arXiv 2302.05543)."""

from __future__ import annotations

from typing import ClassVar

from pinco.pipelines.methods.inpainting import Inpainting


class ControlNet(Inpainting):
    """The background is painted around the product by the backbone, which the ControlNet tells of it."""

    name: ClassVar[str] = "controlnet"
