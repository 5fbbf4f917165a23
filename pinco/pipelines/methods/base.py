"""What a method is: what it makes of a canvas, and its call of diffusers' own pipeline.

Methods hold no weights and no state; they work on those of the `PincoPipeline` that is handed to them. What differs
between backbones is asked of the pipeline's family.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pinco.pipelines.families.base import Embeddings
from pinco.pipelines.request import GenerationRequest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pinco.pipelines.encoded import EncodedCanvas
    from pinco.pipelines.pipeline import PincoPipeline
    from preprocessing.canvas import Canvas


@dataclass(frozen=True)
class Asked:
    """Images that are made in one call: alike in everything but prompt and seed.

    Attributes:
        requests: One for each image.
        prompts: Their prompts as one batch, by the names of the pipeline's arguments.
        negatives: The same of their negative prompts; empty without true guidance.
    """

    requests: Sequence[GenerationRequest]
    prompts: Embeddings
    negatives: Embeddings

    @property
    def knobs(self) -> GenerationRequest:
        """A request that stands for all of them."""
        return self.requests[0]


class Method(ABC):
    """A way to make an image that matches a product.

    Attributes:
        name: One of `pinco.method_names`.
        blending: Whether latents are blended whatever the request's knob says; None = as the knob says.
    """

    name: ClassVar[str]
    blending: ClassVar[bool | None] = None

    @abstractmethod
    def encode(self, pipeline: PincoPipeline, canvas: Canvas, size: tuple[int, int]) -> EncodedCanvas:
        """What all images of a canvas share.

        Args:
            pipeline: The backbone, with what was loaded beside it.
            canvas: The product, where it stands.
            size: Width and height of the canvas in pixels, checked.
        """

    @abstractmethod
    def make(self, pipeline: PincoPipeline, encoded: EncodedCanvas, asked: Asked) -> Tensor:
        """The latents of the images, as diffusers' pipeline gives them. `PincoPipeline.decode` makes images of them.

        Args:
            pipeline: The backbone, with what was loaded beside it.
            encoded: A canvas that this method encoded.
            asked: What to make.
        """


def draw_noise(
    pipeline: PincoPipeline, requests: Sequence[GenerationRequest], size: tuple[int, int]
) -> tuple[Tensor, list[torch.Generator]]:
    """Each image's own noise `[B, C, h, w]`, and the generators that it was drawn from.

    It is drawn in float32 on the CPU: the same on every device, and whatever else is in the batch.
    """
    import torch

    scale = pipeline.dims.vae_scale_factor
    shape = (1, pipeline.dims.latent_channels, size[1] // scale, size[0] // scale)
    generators = [torch.Generator("cpu").manual_seed(request.seed) for request in requests]
    noise = [torch.randn(shape, generator=generator, dtype=torch.float32) for generator in generators]
    return torch.cat(noise).to(pipeline.device), generators


def text_to_image(
    pipeline: PincoPipeline, encoded: EncodedCanvas, asked: Asked, *, steps: int | None = None, **more: Any
) -> Tensor:
    """One call of the backbone's text-to-image pipeline up to its latents; with blending, where the canvas was encoded
    for it.

    Args:
        pipeline: The backbone.
        encoded: Gives the size, and what is blended in.
        asked: What to make; its knob says whether to blend.
        steps: Denoising steps; None = as asked.
        more: Further arguments of the pipeline.
    """
    from pinco.pipelines.blending import StepEndBlender
    from pinco.pipelines.placement import cached_steps

    family, dims = pipeline.family, pipeline.dims
    width, height = encoded.size
    noise, generators = draw_noise(pipeline, asked.requests, encoded.size)
    if asked.knobs.blending:
        assert encoded.clean is not None and encoded.mask is not None
        start = family.in_the_loop(noise, dims)
        more["callback_on_step_end"] = StepEndBlender(encoded.clean, start, encoded.mask, family.renoise)
    steps = steps or asked.knobs.steps
    with cached_steps(pipeline.pipe, family, pipeline.execution, steps=steps, negative=bool(asked.negatives)):
        latents: Tensor
        latents, *_ = pipeline.pipe(
            **asked.prompts,
            **asked.negatives,
            **more,
            **family.knobs(asked.knobs),
            **family.sampling(pipeline.pipe, noise, generators, dims),
            width=width,
            height=height,
            num_inference_steps=steps,
            output_type="latent",
            return_dict=False,
        )
    return latents
