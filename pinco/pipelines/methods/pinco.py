"""The adapter: the backbone's attention sees the product (Lu et al., arXiv 2412.03812)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pinco.pipelines.methods.base import Asked, Method, text_to_image

if TYPE_CHECKING:
    from torch import Tensor

    from pinco.adapter import PincoAdapter
    from pinco.pipelines.encoded import EncodedCanvas
    from pinco.pipelines.pipeline import PincoPipeline
    from preprocessing.canvas import Canvas


class Pinco(Method):
    """Text to image with the canvas's subject. The knob `blending` blends on top of that, to measure what it adds."""

    name: ClassVar[str] = "pinco"

    def encode(self, pipeline: PincoPipeline, canvas: Canvas, size: tuple[int, int]) -> EncodedCanvas:
        """Subject tokens with their keys and values, and the product's latents.

        Raises:
            AdapterNotAttachedError: There is no adapter, or it was taken off its backbone.
            ValueError: A canvas without a product.
        """
        from pinco.pipelines.blending import known_latents
        from pinco.pipelines.encoded import EncodedCanvas, image_tensor, map_tensor

        adapter, family = _attached(pipeline), pipeline.family
        latents = family.encode_image(pipeline.pipe, image_tensor(canvas))
        maps = map_tensor(canvas).to(latents)
        shape_latents = None
        if adapter.settings.shape == "vae":
            shape_latents = family.encode_image(pipeline.pipe, adapter.extractor.shape_image(maps))
        subject = adapter.encode(latents, maps, shape_latents=shape_latents, cache=True)
        clean, mask = known_latents(pipeline, canvas, latents)
        return EncodedCanvas(size, self.name, canvas, subject, clean, mask)

    def make(self, pipeline: PincoPipeline, encoded: EncodedCanvas, asked: Asked) -> Tensor:
        """One call of the text-to-image pipeline that sees the subject.

        Raises:
            AdapterNotAttachedError: There is no adapter, or it was taken off its backbone.
        """
        assert encoded.subject is not None
        with _attached(pipeline).using(encoded.subject) as subject:
            return text_to_image(pipeline, encoded, asked, **subject)


def _attached(pipeline: PincoPipeline) -> PincoAdapter:
    from pinco.adapter import AdapterNotAttachedError

    adapter = pipeline.adapter
    if adapter is None:
        raise AdapterNotAttachedError(
            "the method pinco needs an adapter for its backbone: load the pipeline with one, or use another method"
        )
    if not adapter.attached_to(pipeline.pipe.transformer):
        raise AdapterNotAttachedError(
            "the pipeline's adapter is not attached to its backbone any more, so that the images would show no "
            "product: attach it again (adapter.attach(pipe.transformer)), or make a pipeline without an adapter"
        )
    return adapter
