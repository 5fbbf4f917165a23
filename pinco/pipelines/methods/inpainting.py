"""What the methods fill and controlnet share: a call of one of diffusers' inpainting pipelines.

The pipeline is made of the parts that are loaded already. The product's opaque pixels are what is known, all else is
painted, from our own noise and over all steps (`strength` 1). The families know how each pipeline wants to be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar

from pinco.pipelines.families.base import KnownPixels
from pinco.pipelines.methods.base import Asked, Method, draw_noise

if TYPE_CHECKING:
    from torch import Tensor

    from pinco.pipelines.encoded import EncodedCanvas
    from pinco.pipelines.pipeline import PincoPipeline
    from preprocessing.canvas import Canvas


class Inpainting(Method):
    """One call of an inpainting pipeline. What blends in such a pipeline is its own affair, the knob has no part in it.

    A pipeline without an argument for true guidance or a negative prompt does without them, as it does without the
    guidance that it was not trained with.
    """

    blending: ClassVar[bool | None] = False

    def encode(self, pipeline: PincoPipeline, canvas: Canvas, size: tuple[int, int]) -> EncodedCanvas:
        """Nothing yet: the pipelines take pixels."""
        from pinco.pipelines.encoded import EncodedCanvas

        return EncodedCanvas(size, self.name, canvas)

    def make(self, pipeline: PincoPipeline, encoded: EncodedCanvas, asked: Asked) -> Tensor:
        """One call."""
        from pinco.pipelines.placement import cached_steps

        family, dims = pipeline.family, pipeline.dims
        inpaint = pipeline.inpainting(self.name)
        noise, _ = draw_noise(pipeline, asked.requests, encoded.size)
        takes = signature(inpaint.__call__).parameters
        said = {**asked.prompts, **asked.negatives, **family.knobs(asked.knobs)}
        width, height = encoded.size
        steps, negative = asked.knobs.steps, "negative_prompt_embeds" in asked.negatives.keys() & takes.keys()
        cached = cached_steps(pipeline.pipe, family, pipeline.execution, steps=steps, negative=negative)
        latents: Tensor
        with certain(pipeline.pipe.vae, lambda: pipeline.decoder.vae(encoded.size)), cached:
            latents, *_ = inpaint(
                **{name: value for name, value in said.items() if name in takes},
                **family.inpainting_arguments(self.name, inpaint, known_pixels(pipeline, encoded), noise, dims),
                width=width,
                height=height,
                num_inference_steps=steps,
                output_type="latent",
                return_dict=False,
            )
        pipeline.pipe.maybe_free_model_hooks()  # a sibling does not know what waits in main memory
        return latents


def known_pixels(pipeline: PincoPipeline, encoded: EncodedCanvas) -> KnownPixels:
    """The product of an encoded canvas, on the pipeline's device."""
    import numpy as np
    import torch

    canvas, device = encoded.canvas, pipeline.device
    image = torch.from_numpy(np.ascontiguousarray(canvas.image)).permute(2, 0, 1)[None].float().contiguous() / 255
    background = torch.from_numpy(canvas.alpha < 255)[None, None].float()
    return KnownPixels(image.to(device), background.to(device))


@contextmanager
def certain(vae: Any, using: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Iterator[None]:
    """Inside, the VAE's latents are their mean.

    The inpainting pipelines draw a sample of them, some from torch's global generator: the known pixels would depend on
    the device, on what else is in the batch and on what was made before.

    Args:
        vae: A VAE.
        using: What each encoding runs in; another thread may decode between them.
    """
    import torch

    encode = vae.encode

    def encode_certainly(*args: Any, **options: Any) -> Any:
        with using():
            output = encode(*args, **options)
        distribution = output.latent_dist
        distribution.std = torch.zeros_like(distribution.mean)
        return output

    vae.encode = encode_certainly
    try:
        yield
    finally:
        del vae.encode


def sibling(pipe: Any, name: str, **more: Any) -> Any:
    """Another of diffusers' pipelines, over the same parts and with the same configuration.

    Args:
        pipe: A loaded pipeline.
        name: Class of the other; it is `pipe` itself where that is of this class.
        more: Further parts.
    """
    import diffusers

    wanted = getattr(diffusers, name)
    if type(pipe) is wanted:
        return pipe
    has = {**pipe.config, **pipe.components, **more}
    made = wanted(**{part: has[part] for part in signature(wanted.__init__).parameters if part in has})
    made.set_progress_bar_config(disable=True)
    return made
