"""Which weights make an image, and how: the section of a run's settings that `pinco.generation` needs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pinco.knobs import KnobOverrides, knobs_of
from pinco.methods import MethodName


class ModelSettings(KnobOverrides):
    """Which weights make the images, and how. None = what the backbone's own defaults say.

    Attributes:
        backbone: A folder or a hub id; None = the built-in model with its own adapter and segmenter.
        method: By what an image comes to match its product; "auto" chooses by the weights that there are.
        adapter: Folder of a Pinco adapter for the backbone.
        controlnet: Folder of an inpainting ControlNet for the backbone.
        segmenter: Folder of a product segmenter.
        device: Where the backbone computes; "auto" takes a GPU if there is one.
        dtype: Number format; "auto" is bfloat16 on a GPU, else float32.
        working_pixels: Area in pixels that images are generated at.
    """

    backbone: str | None = None
    method: Literal["auto", MethodName] = "auto"
    adapter: str | None = None
    controlnet: str | None = None
    segmenter: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    working_pixels: int | None = Field(None, ge=256)

    def knobs(self) -> dict[str, Any]:
        """The knobs by name; None where nothing was said."""
        return knobs_of(self)
