"""Flux pipelines: `FluxPipeline` with the weights of FLUX.1 dev or schnell, or of their architecture."""

from __future__ import annotations

from typing import Any

from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families.base import Config, Embeddings, PipelineFamily, latent_side
from pinco.pipelines.request import GenerationRequest

DEV = GenerationDefaults(steps=28, guidance=3.5, true_cfg=1.0, max_sequence_length=512, working_pixels=1024 * 1024)
SCHNELL = GenerationDefaults(steps=4, guidance=0.0, true_cfg=1.0, max_sequence_length=256, working_pixels=1024 * 1024)


class FluxPipelineFamily(PipelineFamily):
    """Text to image by `FluxPipeline`.

    diffusers' inpainting pipelines blend the known region in at every step and cannot be told not to; this one leaves
    the sampling alone and lets the adapter's attention keep the product where it is.
    """

    pipelines = ("FluxPipeline",)
    packed = True

    def usual(self, transformer: Config) -> GenerationDefaults:
        """Those of dev for a guidance-distilled transformer, else those of schnell."""
        return DEV if transformer["guidance_embeds"] else SCHNELL

    def size_multiple(self, transformer: Config, vae: Config) -> int:
        """A token is 2 x 2 latent pixels."""
        return 2 * latent_side(vae)

    def encode_prompt(self, pipe: Any, prompt: str, max_sequence_length: int) -> Embeddings:
        """T5's tokens `[1, L, D]` and CLIP's pooled embedding `[1, P]`."""
        tokens, pooled, _ = pipe.encode_prompt(prompt, max_sequence_length=max_sequence_length)
        return {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """The embedded guidance, and the true one, which runs a second call of the transformer."""
        return {"guidance_scale": request.guidance, "true_cfg_scale": request.true_cfg}


FAMILY = FluxPipelineFamily()
