"""Z-Image pipelines: `ZImagePipeline` with the weights of Z-Image Turbo or Z-Image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families.base import Config, Embeddings, PipelineFamily, latent_side
from pinco.pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from torch import Tensor

    from pinco.adapter import BackboneDims

TURBO = GenerationDefaults(steps=9, guidance=0.0, true_cfg=1.0, max_sequence_length=512, working_pixels=1024 * 1024)

PATCH_SIZE = 2

_TEXT_TO_IMAGE = "Name a folder of a ZImagePipeline, Z-Image-Turbo for example"


class ZImagePipelineFamily(PipelineFamily):
    """Text to image by `ZImagePipeline`.

    Prompts travel as lists, each as long as it is: a batch pads them in the transformer. Guidance runs in one doubled
    batch. The pipeline counts its scale from 0, `v + g (v - v_negative)`; `true_cfg` is `1 + g`, as for other families.
    """

    pipelines = ("ZImagePipeline",)
    packed = False
    caches = ("dbcache",)
    block_lists: ClassVar[Mapping[str, str]] = {"layers": "Pattern_3"}
    repeated_blocks = ("ZImageTransformerBlock",)
    refused: ClassVar[Mapping[str, str]] = {
        "ZImageOmniPipeline": f"is made for several images in one sequence. {_TEXT_TO_IMAGE}",
    }

    def usual(self, transformer: Config) -> GenerationDefaults:
        """Those of Turbo, which is distilled. Its index does not tell it from Z-Image, whose `pinco.json` has to."""
        return TURBO

    def size_multiple(self, transformer: Config, vae: Config) -> int:
        """A token is 2 x 2 latent pixels."""
        return PATCH_SIZE * latent_side(vae)

    def for_the_vae(self, pipe: Any, latents: Tensor, size: tuple[int, int], dims: BackboneDims) -> Tensor:
        """In the VAE's dtype from the start; sampling keeps latents in float32."""
        return super().for_the_vae(pipe, latents.to(pipe.vae.dtype), size, dims)

    def encode_prompt(self, pipe: Any, prompt: str, max_sequence_length: int) -> Embeddings:
        """The last hidden layer but one of the language model, for the prompt in a chat template: one `[L, D]`."""
        tokens, _ = pipe.encode_prompt(
            prompt, do_classifier_free_guidance=False, max_sequence_length=max_sequence_length
        )
        return {"prompt_embeds": tokens}

    def join(self, embeddings: Sequence[Embeddings]) -> Embeddings:
        """Lists behind each other."""
        return {name: [tokens for one in embeddings for tokens in one[name]] for name in embeddings[0]}

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """The true guidance, counted from 0; there is no embedded one."""
        return {"guidance_scale": request.true_cfg - 1}


FAMILY = ZImagePipelineFamily()
