"""The backbone alone, which is told nothing of the product: what the methods are measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pinco.method_names import BARE
from pinco.pipelines.methods.base import Asked, Method, text_to_image

if TYPE_CHECKING:
    from torch import Tensor

    from pinco.pipelines.encoded import EncodedCanvas
    from pinco.pipelines.pipeline import PincoPipeline
    from preprocessing.canvas import Canvas


class Bare(Method):
    """Text to image. The knob `blending` blends the product in on its neutral ground."""

    name: ClassVar[str] = BARE

    def encode(self, pipeline: PincoPipeline, canvas: Canvas, size: tuple[int, int]) -> EncodedCanvas:
        """The product's latents, for the knob `blending`."""
        from pinco.pipelines.blending import known_latents
        from pinco.pipelines.encoded import EncodedCanvas, image_tensor

        latents = pipeline.family.encode_image(pipeline.pipe, image_tensor(canvas))
        clean, mask = known_latents(pipeline, canvas, latents)
        return EncodedCanvas(size, self.name, canvas, clean=clean, mask=mask)

    def make(self, pipeline: PincoPipeline, encoded: EncodedCanvas, asked: Asked) -> Tensor:
        """One call of the text-to-image pipeline."""
        return text_to_image(pipeline, encoded, asked)
