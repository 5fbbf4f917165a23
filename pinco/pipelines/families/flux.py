"""Flux pipelines: `FluxPipeline` with the weights of FLUX.1 dev or schnell, or of their architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pinco.pipelines.controlnets.flux import SCALE, masked_controlnet, takes_a_mask
from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families.base import Config, Embeddings, KnownPixels, PipelineFamily, latent_side, other_widths
from pinco.pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from torch import Tensor

    from pinco.adapter import BackboneDims

DEV = GenerationDefaults(steps=28, guidance=3.5, true_cfg=1.0, max_sequence_length=512, working_pixels=1024 * 1024)
SCHNELL = GenerationDefaults(steps=4, guidance=0.0, true_cfg=1.0, max_sequence_length=256, working_pixels=1024 * 1024)

PATCH_SIZE = 2

_TEXT_TO_IMAGE = "Name a text-to-image checkpoint of a FluxPipeline: FLUX.1-dev or FLUX.1-schnell"
_INPAINTING = "Name an inpainting ControlNet: alimama-creative's FLUX.1-dev-Controlnet-Inpainting-Beta"


class FluxPipelineFamily(PipelineFamily):
    """Text to image by `FluxPipeline`.

    For the method pinco no inpainting pipeline would do: diffusers' blend the known region in at every step and cannot
    be told not to. This one leaves the sampling alone and lets the adapter's attention keep the product where it is.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline",)
    packed = True
    caches = ("first_block", "taylor", "dbcache")
    block_lists: ClassVar[Mapping[str, str]] = {
        "transformer_blocks": "Pattern_1",
        "single_transformer_blocks": "Pattern_1",
    }
    separate_passes = True
    repeated_blocks = ("FluxTransformerBlock", "FluxSingleTransformerBlock")
    refused: ClassVar[Mapping[str, str]] = {
        "FluxKontextPipeline": f"edits a reference image by instruction. {_TEXT_TO_IMAGE}",
        "FluxControlPipeline": f"takes edges or depth in channels of its own. {_TEXT_TO_IMAGE}",
    }
    inpainting: ClassVar[Mapping[str, str]] = {"controlnet": "FluxControlNetInpaintPipeline"}
    controlnet: ClassVar[str | None] = "FluxControlNetModel"

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
            f"Fill or Control checkpoint, which also takes an image. {_TEXT_TO_IMAGE}; or FLUX.1-Fill-dev "
            "with an index that says FluxFillPipeline, as it was published"
        )

    def controlnet_refusal(
        self, config: Config, shapes: Mapping[str, tuple[int, ...]], transformer: Config
    ) -> str | None:
        """One whose condition has no channels for the mask, or whose tokens have another width."""
        if config.get("num_mode") is not None or not takes_a_mask(config, shapes):
            return (
                "was not made for inpainting: its condition has no channels for the mask, as for edges, depth or "
                f"poses. {_INPAINTING}"
            )
        return other_widths(config, transformer)

    def controlnet_class(self) -> Any:
        """diffusers' own with channels for the mask."""
        return masked_controlnet()

    def encode_prompt(self, pipe: Any, prompt: str, max_sequence_length: int) -> Embeddings:
        """T5's tokens `[1, L, D]` and CLIP's pooled embedding `[1, P]`."""
        tokens, pooled, _ = pipe.encode_prompt(prompt, max_sequence_length=max_sequence_length)
        return {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """The embedded guidance, and the true one, which runs a second call of the transformer."""
        return {"guidance_scale": request.guidance, "true_cfg_scale": request.true_cfg}

    def inpainting_arguments(
        self, method: str, pipe: Any, known: KnownPixels, noise: Tensor, dims: BackboneDims
    ) -> dict[str, Any]:
        """For a ControlNet that was told the mask: the known image's latents on black, and the mask behind them.

        The pipeline also puts the known latents in place after each step, where the whole latent pixel is known.
        """
        from torch.nn.functional import interpolate

        from pinco.adapter.tokens import pack

        kept = 1 - interpolate(known.background, size=noise.shape[-2:])
        pipe.controlnet.known = pack(kept, dims.patch_size)
        return {
            "image": known.image,
            "mask_image": known.background_of(dims.vae_scale_factor),
            "control_image": known.on_black(),
            "controlnet_conditioning_scale": SCALE,
            "latents": noise.to(pipe.transformer.dtype),
            "strength": 1.0,
        }


FAMILY = FluxPipelineFamily()
