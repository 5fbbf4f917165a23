"""Flux 2 pipelines: `Flux2Pipeline` with the weights of FLUX.2 dev, and what all Flux 2 pipelines have in common."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families.base import Config, Embeddings, PipelineFamily, latent_side
from pinco.pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from torch import Tensor

    from pinco.adapter import BackboneDims

DEV = GenerationDefaults(steps=50, guidance=4.0, true_cfg=1.0, max_sequence_length=512, working_pixels=1024 * 1024)

PATCH_SIZE = 2


class Flux2PipelineFamily(PipelineFamily):
    """Text to image by `Flux2Pipeline`, whose guidance is embedded and which takes no negative prompt.

    The pipelines normalise latents by the statistics of the VAE's batch norm, over 2 x 2 packed latent pixels. They
    take them as `[B, 4 C, h / 2, w / 2]` and hand them to their callback as tokens.
    """

    pipelines = ("Flux2Pipeline",)
    packed = True
    caches = ("taylor", "dbcache")
    block_lists: ClassVar[Mapping[str, str]] = {
        "transformer_blocks": "Pattern_1",
        "single_transformer_blocks": "Pattern_3",
    }
    separate_passes = True
    repeated_blocks = ("Flux2TransformerBlock", "Flux2SingleTransformerBlock")

    def usual(self, transformer: Config) -> GenerationDefaults:
        """The pipeline's own."""
        return DEV

    def size_multiple(self, transformer: Config, vae: Config) -> int:
        """A token is 2 x 2 latent pixels."""
        return PATCH_SIZE * latent_side(vae)

    def refusal(self, index: Config, transformer: Config, vae: Config) -> str | None:
        """A processor of text and images, which FLUX.2 dev is published with, does not start without torchvision."""
        if "PixtralProcessor" in index.get("tokenizer", ()) and find_spec("torchvision") is None:
            return (
                "has a PixtralProcessor for its prompts, which needs the package torchvision: install it beside torch "
                "(pip install torchvision)"
            )
        return None

    def encode_image(self, pipe: Any, image: Tensor) -> Tensor:
        """As the pipelines encode reference images, unpacked again: `[B, C, h, w]`."""
        from torch.nn.functional import pixel_shuffle

        packed = pipe._encode_vae_image(image.to(pipe._execution_device, pipe.vae.dtype), generator=None)
        return pixel_shuffle(packed, PATCH_SIZE)

    def as_argument(self, latents: Tensor, dims: BackboneDims) -> Tensor:
        """2 x 2 latent pixels as channels."""
        from torch.nn.functional import pixel_unshuffle

        return pixel_unshuffle(latents, dims.patch_size)

    def for_the_vae(self, pipe: Any, latents: Tensor, size: tuple[int, int], dims: BackboneDims) -> Tensor:
        """Tokens put into their places, and the batch norm taken back."""
        import torch

        side = dims.token_stride
        places = pipe._prepare_latent_ids(torch.empty(len(latents), 1, size[1] // side, size[0] // side, device="meta"))
        latents = pipe._unpack_latents_with_ids(latents, places.to(latents.device))
        norm = pipe.vae.bn
        deviation = torch.sqrt(norm.running_var.view(1, -1, 1, 1) + pipe.vae.config.batch_norm_eps).to(latents)
        latents = latents * deviation + norm.running_mean.view(1, -1, 1, 1).to(latents)
        unpatched: Tensor = pipe._unpatchify_latents(latents)
        return unpatched

    def encode_prompt(self, pipe: Any, prompt: str, max_sequence_length: int) -> Embeddings:
        """Three hidden layers of the language model side by side, `[1, L, 3 D]`, for the prompt in a chat template."""
        tokens, _ = pipe.encode_prompt(prompt, max_sequence_length=max_sequence_length)
        return {"prompt_embeds": tokens}

    def negative(self, embeddings: Embeddings) -> Embeddings:
        """Nothing: the pipeline has no argument for a negative prompt."""
        return {}

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """The embedded guidance; there is no true one."""
        return {"guidance_scale": request.guidance}


FAMILY = Flux2PipelineFamily()
