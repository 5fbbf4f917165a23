"""Flux 2 klein pipelines: `Flux2KleinPipeline` with the weights of FLUX.2 klein, distilled to four steps, or Base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families.base import Config, Embeddings, KnownPixels, PipelineFamily
from pinco.pipelines.families.flux2 import Flux2PipelineFamily
from pinco.pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from torch import Tensor

    from pinco.adapter import BackboneDims

BASE = GenerationDefaults(steps=50, guidance=0.0, true_cfg=4.0, max_sequence_length=512, working_pixels=1024 * 1024)
DISTILLED = GenerationDefaults(steps=4, guidance=0.0, true_cfg=1.0, max_sequence_length=512, working_pixels=1024 * 1024)

_TEXT_TO_IMAGE = "Name a folder of a Flux2KleinPipeline, FLUX.2-klein-4B for example"


class Flux2KleinBaseFamily(Flux2PipelineFamily):
    """Text to image by `Flux2KleinPipeline`, whose guidance is classifier-free, in two calls of the transformer."""

    pipelines = ("Flux2KleinPipeline",)
    refused: ClassVar[Mapping[str, str]] = {
        "Flux2KleinKVPipeline": f"is made for reference images, which Pinco does not use. {_TEXT_TO_IMAGE}",
        "Flux2KleinInpaintPipeline": f"has the weights of a Flux2KleinPipeline. {_TEXT_TO_IMAGE}, with --method fill",
    }
    inpainting: ClassVar[Mapping[str, str]] = {"fill": "Flux2KleinInpaintPipeline"}

    def usual(self, transformer: Config) -> GenerationDefaults:
        """The pipeline's own."""
        return BASE

    def variant(self, index: Config) -> PipelineFamily:
        """The distilled checkpoints say in the pipeline's own configuration that they are."""
        return _DISTILLED if index.get("is_distilled") else self

    def for_the_vae(self, pipe: Any, latents: Tensor, size: tuple[int, int], dims: BackboneDims) -> Tensor:
        """As they are: these pipelines take the batch norm back before they return latents."""
        return latents

    def negative(self, embeddings: Embeddings) -> Embeddings:
        """The tokens under the name that the pipeline has for them."""
        return {"negative_prompt_embeds": embeddings["prompt_embeds"]}

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """The true guidance; there is no embedded one."""
        return {"guidance_scale": request.true_cfg}

    def inpainting_arguments(
        self, method: str, pipe: Any, known: KnownPixels, noise: Tensor, dims: BackboneDims
    ) -> dict[str, Any]:
        """The known image as latents: given as pixels, it would be made smaller without a word above a megapixel.

        The pipeline shows it to the transformer as a reference image, in as many tokens again, and puts the known
        tokens in place after each step.
        """
        image = (2 * known.image - 1).to(pipe._execution_device, pipe.vae.dtype)
        return {
            "image": pipe._patchify_latents(pipe.vae.encode(image).latent_dist.mode()),
            "mask_image": known.background_of(dims.token_stride),
            "latents": self.as_argument(noise, dims).to(pipe.transformer.dtype),
            "strength": 1.0,
        }


class Flux2KleinDistilledFamily(Flux2KleinBaseFamily):
    """The same for checkpoints distilled to a few steps, which take no guidance at all."""

    def usual(self, transformer: Config) -> GenerationDefaults:
        """Four steps."""
        return DISTILLED

    def negative(self, embeddings: Embeddings) -> Embeddings:
        """Nothing: a negative prompt has its effect by guidance alone."""
        return {}

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """Guidance off: the pipeline ignores it for these checkpoints, and warns of it at each call."""
        return {"guidance_scale": 1.0}


FAMILY = Flux2KleinBaseFamily()
_DISTILLED = Flux2KleinDistilledFamily()
