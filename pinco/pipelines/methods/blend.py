"""Latent blending: after each step the product's region becomes the noised product again. Needs the backbone alone.

Blended Latent Diffusion (Avrahami et al., arXiv 2206.02779) with a soft mask. Latents see some pixels around them, so
that the product's edge brings the ground into the image that it was encoded on: on neutral grey, a grey rim. A quick
first pass says which colours the image will have there, and the product is encoded once more, on those.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pinco.pipelines.methods.base import Asked, Method, text_to_image

if TYPE_CHECKING:
    from torch import Tensor

    from pinco.pipelines.encoded import EncodedCanvas
    from pinco.pipelines.pipeline import PincoPipeline
    from preprocessing.canvas import Canvas

FIRST_PASS = 4
"""The first pass takes this part of the steps. Half of them make no better rim, and cost twice as much."""


class Blend(Method):
    """Text to image without a subject, blending always on."""

    name: ClassVar[str] = "blend"
    blending: ClassVar[bool | None] = True

    def encode(self, pipeline: PincoPipeline, canvas: Canvas, size: tuple[int, int]) -> EncodedCanvas:
        """The product's latents on neutral grey."""
        from pinco.pipelines.blending import known_latents
        from pinco.pipelines.encoded import EncodedCanvas, image_tensor

        latents = pipeline.family.encode_image(pipeline.pipe, image_tensor(canvas))
        clean, mask = known_latents(pipeline, canvas, latents)
        return EncodedCanvas(size, self.name, canvas, clean=clean, mask=mask)

    def make(self, pipeline: PincoPipeline, encoded: EncodedCanvas, asked: Asked) -> Tensor:
        """Two calls of the text-to-image pipeline, from the same noise."""
        import torch

        from pinco.pipelines.blending import known_latents
        from pinco.pipelines.encoded import image_tensor
        from preprocessing.ground import on_ground

        canvas, reach = encoded.canvas, pipeline.dims.vae_scale_factor
        first = text_to_image(pipeline, encoded, asked, steps=max(1, asked.knobs.steps // FIRST_PASS))
        scenes = pipeline.decoder.images(first, encoded.size)
        images = [image_tensor(replace(canvas, image=on_ground(canvas, scene, reach))) for scene in scenes]
        with pipeline.decoder.vae(encoded.size):
            latents = torch.cat([pipeline.family.encode_image(pipeline.pipe, image) for image in images])
        clean, mask = known_latents(pipeline, canvas, latents)
        return text_to_image(pipeline, replace(encoded, clean=clean, mask=mask), asked)
