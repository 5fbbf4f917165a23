"""Flux fill pipelines: `FluxFillPipeline` with the weights of FLUX.1 Fill dev."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families.base import Config, Embeddings, KnownPixels, latent_side
from pinco.pipelines.families.flux import PATCH_SIZE, FluxPipelineFamily
from pinco.pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from torch import Tensor

    from pinco.adapter import BackboneDims

FILL = GenerationDefaults(steps=50, guidance=30.0, true_cfg=1.0, max_sequence_length=512, working_pixels=1024 * 1024)


class FluxFillFamily(FluxPipelineFamily):
    """Inpainting by `FluxFillPipeline`, whose transformer takes the known image and a mask beside the noisy latents.

    Its guidance is embedded; there is no true one, and no negative prompt.
    """

    pipelines = ("FluxFillPipeline",)
    refused: ClassVar[Mapping[str, str]] = {}
    text_to_image = False
    inpainting: ClassVar[Mapping[str, str]] = {"fill": "FluxFillPipeline"}
    controlnet = None
    no_controlnet = "Its transformer is told of the product by itself."

    def usual(self, transformer: Config) -> GenerationDefaults:
        """The pipeline's own: far more guidance than text to image takes."""
        return FILL

    def refusal(self, index: Config, transformer: Config, vae: Config) -> str | None:
        """A transformer that does not take the latents twice and a mask at pixel resolution."""
        side, channels = latent_side(vae), vae["latent_channels"]
        wanted = PATCH_SIZE**2 * (2 * channels + side**2)
        if transformer["in_channels"] == wanted:
            return None
        return (
            f"takes {transformer['in_channels']} channels where a Fill transformer takes {wanted}: latents, the known "
            "image and a mask. Fetch FLUX.1-Fill-dev again"
        )

    def dims(self, pipe: Any) -> BackboneDims:
        """As the text-to-image backbone's, but the latents are only a part of what the transformer takes."""
        from pinco.adapter.families import family_of

        dims = family_of(pipe.transformer).dims(pipe.transformer, None)
        vae = pipe.vae.config
        return replace(dims, latent_channels=vae.latent_channels, vae_scale_factor=latent_side(vae))

    def negative(self, embeddings: Embeddings) -> Embeddings:
        """Nothing: the pipeline has no argument for a negative prompt."""
        return {}

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """The embedded guidance."""
        return {"guidance_scale": request.guidance}

    def inpainting_arguments(
        self, method: str, pipe: Any, known: KnownPixels, noise: Tensor, dims: BackboneDims
    ) -> dict[str, Any]:
        """Image and mask, and packed noise. Nothing is blended in the loop: the transformer takes what is known."""
        return {
            "image": known.image,
            "mask_image": known.background,
            "latents": self.as_argument(noise, dims),
            "strength": 1.0,
        }


FAMILY = FluxFillFamily()
