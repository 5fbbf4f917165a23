"""Stable Diffusion 3 pipelines: `StableDiffusion3Pipeline` with SD3-medium, SD3.5-medium, SD3.5-large or their like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families.base import Config, Embeddings, KnownPixels, PipelineFamily, latent_side, other_widths
from pinco.pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from torch import Tensor

    from pinco.adapter import BackboneDims

USUAL_SAMPLE_SIZE = 128
USUAL_VAE_SIDE = 8
PROMPT_TOKENS = 256
MASK_CHANNELS = 1
CONDITION_EMBEDDER = "pos_embed_input.proj.weight"
CONTROLNET_SCALE = 0.95
"""Strength of the ControlNet, as its makers use it."""


class SD3PipelineFamily(PipelineFamily):
    """Text to image by `StableDiffusion3Pipeline`.

    `true_cfg` is the pipeline's `guidance_scale`: SD3 is not guidance-distilled and runs a negative pass, in one
    doubled batch, where it is above 1. `guidance` has no effect.
    """

    pipelines = ("StableDiffusion3Pipeline",)
    packed = False
    caches = ("taylor", "dbcache")
    block_lists: ClassVar[Mapping[str, str]] = {"transformer_blocks": "Pattern_1"}
    inpainting: ClassVar[Mapping[str, str]] = {"controlnet": "StableDiffusion3ControlNetInpaintingPipeline"}
    controlnet: ClassVar[str | None] = "SD3ControlNetModel"
    controlnet_options: ClassVar[Mapping[str, Any]] = {"extra_conditioning_channels": MASK_CHANNELS}
    repeated_blocks = ("JointTransformerBlock",)

    def usual(self, transformer: Config) -> GenerationDefaults:
        """Steps and guidance as published for the three sizes, which are told apart by their attentions.

        A distilled one (SD3.5-large-turbo) has the same transformer as the large one: give such a folder a `pinco.json`
        with `steps` 4 and `true_cfg` 1.
        """
        if transformer.get("dual_attention_layers"):
            steps, true_cfg = 40, 4.5  # SD3.5-medium
        elif transformer.get("qk_norm"):
            steps, true_cfg = 28, 3.5  # SD3.5-large
        else:
            steps, true_cfg = 28, 7.0  # SD3-medium
        side = USUAL_VAE_SIDE * int(transformer.get("sample_size") or USUAL_SAMPLE_SIZE)
        return GenerationDefaults(
            steps=steps, guidance=0.0, true_cfg=true_cfg, max_sequence_length=PROMPT_TOKENS, working_pixels=side * side
        )

    def size_multiple(self, transformer: Config, vae: Config) -> int:
        """One patch of latent pixels."""
        return int(transformer["patch_size"]) * latent_side(vae)

    def controlnet_refusal(
        self, config: Config, shapes: Mapping[str, tuple[int, ...]], transformer: Config
    ) -> str | None:
        """One that takes no mask in a channel of its own, or whose tokens have another width.

        The weights tell: the configuration that alimama-creative published does not.
        """
        if shapes.get(CONDITION_EMBEDDER, (0, 0))[1] != config["in_channels"] + MASK_CHANNELS:
            return (
                "was not made for inpainting: its condition has no channel for the mask, as for edges, depth or poses. "
                "Name an inpainting ControlNet: alimama-creative's SD3-Controlnet-Inpainting"
            )
        return other_widths(config, transformer)

    def encode_prompt(self, pipe: Any, prompt: str, max_sequence_length: int) -> Embeddings:
        """CLIP's and T5's tokens `[1, L, D]` and CLIP's pooled embeddings `[1, P]`.

        Any of the three encoders may be absent; zeros stand in its place, as diffusers does it for T5.

        Raises:
            TypeError: All three are absent.
        """
        clips = (pipe.text_encoder, pipe.text_encoder_2)
        if None not in clips:
            tokens, _, pooled, _ = pipe.encode_prompt(
                prompt, None, None, do_classifier_free_guidance=False, max_sequence_length=max_sequence_length
            )
        elif (*clips, pipe.text_encoder_3) == (None, None, None):
            raise TypeError("all text encoders are absent")
        else:
            tokens, pooled = _without_a_clip(pipe, prompt, max_sequence_length)
        return {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """Classifier-free guidance."""
        return {"guidance_scale": request.true_cfg}

    def inpainting_arguments(
        self, method: str, pipe: Any, known: KnownPixels, noise: Tensor, dims: BackboneDims
    ) -> dict[str, Any]:
        """Image and mask as tensors, which the pipeline takes as they are. It holds nothing in place in the loop."""
        return {
            "control_image": 2 * known.image - 1,
            "control_mask": known.background,
            "controlnet_conditioning_scale": CONTROLNET_SCALE,
            "latents": noise.to(pipe.transformer.dtype),
        }


def _without_a_clip(pipe: Any, prompt: str, max_sequence_length: int) -> tuple[Tensor, Tensor]:
    """What `StableDiffusion3Pipeline.encode_prompt` makes, which cannot do without a CLIP encoder.

    The channels of an absent one are zero. Its width is what the other one leaves of the pooled embedding: in all of
    SD3's encoders the projection is as wide as the tokens.
    """
    import torch
    import torch.nn.functional as F

    device, config = pipe._execution_device, pipe.transformer.config
    kind = {"device": device, "dtype": pipe.transformer.dtype}
    t5 = pipe._get_t5_prompt_embeds(prompt, max_sequence_length=max_sequence_length, **kind)
    width = config.pooled_projection_dim
    tokens = torch.zeros(1, pipe.tokenizer_max_length, t5.shape[-1], **kind)
    pooled = torch.zeros(1, width, **kind)
    for first, encoder, tokenizer in (
        (True, pipe.text_encoder, pipe.tokenizer),
        (False, pipe.text_encoder_2, pipe.tokenizer_2),
    ):
        if encoder is None:
            continue
        length = min(pipe.tokenizer_max_length, tokenizer.model_max_length)
        ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        made = encoder(ids.to(device), output_hidden_states=True)
        own = encoder.config.projection_dim
        left = 0 if first else width - own
        pooled = F.pad(made[0], (left, width - own - left)).to(**kind)
        tokens = F.pad(made.hidden_states[-2], (left, t5.shape[-1] - own - left)).to(**kind)
    return torch.cat((tokens, t5), dim=1), pooled


FAMILY = SD3PipelineFamily()
