"""Flux pipelines: `FluxPipeline` with the weights of FLUX.1 dev or schnell, or of their architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families.base import Config, Embeddings, PipelineFamily, latent_side
from pinco.pipelines.request import GenerationRequest

DEV = GenerationDefaults(steps=28, guidance=3.5, true_cfg=1.0, max_sequence_length=512, working_pixels=1024 * 1024)
SCHNELL = GenerationDefaults(steps=4, guidance=0.0, true_cfg=1.0, max_sequence_length=256, working_pixels=1024 * 1024)

PATCH_SIZE = 2

_TEXT_TO_IMAGE = "Name a text-to-image checkpoint of a FluxPipeline: FLUX.1-dev or FLUX.1-schnell"


class FluxPipelineFamily(PipelineFamily):
    """Text to image by `FluxPipeline`.

    diffusers' inpainting pipelines blend the known region in at every step and cannot be told not to; this one leaves
    the sampling alone and lets the adapter's attention keep the product where it is.
    """

    pipelines = ("FluxPipeline",)
    packed = True
    caches = ("first_block", "taylor")
    repeated_blocks = ("FluxTransformerBlock", "FluxSingleTransformerBlock")
    refused: ClassVar[Mapping[str, str]] = {
        "FluxFillPipeline": f"fills a mask and takes the known image in channels of its own. {_TEXT_TO_IMAGE}",
        "FluxKontextPipeline": f"edits a reference image by instruction. {_TEXT_TO_IMAGE}",
    }

    def usual(self, transformer: Config) -> GenerationDefaults:
        """Those of dev for a guidance-distilled transformer, else those of schnell."""
        return DEV if transformer["guidance_embeds"] else SCHNELL

    def size_multiple(self, transformer: Config, vae: Config) -> int:
        """A token is 2 x 2 latent pixels."""
        return PATCH_SIZE * latent_side(vae)

    def refusal(self, index: Config, transformer: Config, vae: Config) -> str | None:
        """A transformer that takes more than the noisy latents: Fill (384 channels) and Control (128) checkpoints."""
        wanted = PATCH_SIZE**2 * vae["latent_channels"]
        if transformer["in_channels"] == wanted:
            return None
        return (
            f"takes {transformer['in_channels']} channels where latents have {wanted}: its transformer is that of a "
            f"Fill or Control checkpoint, which also takes an image. {_TEXT_TO_IMAGE}"
        )

    def encode_prompt(self, pipe: Any, prompt: str, max_sequence_length: int) -> Embeddings:
        """T5's tokens `[1, L, D]` and CLIP's pooled embedding `[1, P]`."""
        tokens, pooled, _ = pipe.encode_prompt(prompt, max_sequence_length=max_sequence_length)
        return {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """The embedded guidance, and the true one, which runs a second call of the transformer."""
        return {"guidance_scale": request.guidance, "true_cfg_scale": request.true_cfg}


FAMILY = FluxPipelineFamily()
