"""Which weights make an image, and how: the section of a run's settings that `pinco.generation` needs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ModelSettings(BaseModel):
    """Which weights make the images, and how. None = what the backbone's own defaults say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # A folder or a hub id; None = the built-in toy with its own adapter, segmenter and classifier.
    backbone: str | None = None
    adapter: str | None = None
    segmenter: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    steps: int | None = Field(None, ge=1)
    guidance: float | None = None
    true_cfg: float | None = None
    blending: bool | None = None
    working_pixels: int | None = Field(None, ge=256)
