"""Which weights make an image, and how: the section of a run's settings that `pinco.generation` needs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pinco.knobs import KnobOverrides, knobs_of
from pinco.method_names import MethodName
from pinco.pipelines.execution import CacheName, Choice, PlacementName, PresetName, Quantise, Tiling


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
        preset: A name for a combination of steps and the following (`pinco.pipelines.execution.PRESETS`); what is said
            beside it goes first.
        placement: Where weights wait while they are not used; decides no pixel.
        quantise: Number format of the transformer's linear weights.
        compile: Compile the transformer's blocks.
        cache: What is taken over from one step to the next.
        vae_tiling: Whether the VAE works in tiles; "auto" does so for large images.
    """

    backbone: str | None = None
    method: Literal["auto", MethodName] = "auto"
    adapter: str | None = None
    controlnet: str | None = None
    segmenter: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    working_pixels: int | None = Field(None, ge=256)
    preset: PresetName | None = None
    placement: PlacementName = "auto"
    quantise: Quantise | None = None
    compile: bool | None = None
    cache: CacheName | None = None
    vae_tiling: Tiling = "auto"

    @property
    def choice(self) -> Choice:
        """What is said of how the model computes."""
        return Choice.of(self)

    def knobs(self) -> dict[str, Any]:
        """The knobs by name; None where nothing was said."""
        return knobs_of(self)
