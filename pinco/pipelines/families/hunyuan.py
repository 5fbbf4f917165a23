"""Hunyuan-DiT pipelines: `HunyuanDiTPipeline` with the weights of any version, or of their architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families.base import Config, Embeddings, PipelineFamily, latent_side
from pinco.pipelines.request import GenerationRequest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pinco.adapter import BackboneDims

USUAL_VAE_SIDE = 8


class HunyuanPipelineFamily(PipelineFamily):
    """Text to image by `HunyuanDiTPipeline`.

    `true_cfg` is the pipeline's `guidance_scale`: Hunyuan-DiT is not guidance-distilled and runs a negative pass, in
    one doubled batch, where it is above 1. `guidance` has no effect. `max_sequence_length` has none either: the
    transformer has a learned padding for each place of the text, so that both texts have the length in its config.

    The pipeline would change the image's size to the nearest of those it was trained at (`use_resolution_binning`),
    without an error. That is off: a canvas has the size that it has.
    """

    pipelines = ("HunyuanDiTPipeline",)
    packed = False
    no_controlnet = (
        "Its ControlNets were made for edges, depth and poses, and diffusers has no inpainting pipeline for them."
    )
    single_layers = False  # its pooling reads the weights of layers that it does not call
    unquantised = ("pooler",)
    caches = ("dbcache",)
    block_lists: ClassVar[Mapping[str, str]] = {"blocks": "Pattern_3"}
    block_skips = True
    repeated_blocks = ("HunyuanDiTBlock",)

    def usual(self, transformer: Config) -> GenerationDefaults:
        """Steps and guidance of diffusers' pipeline. The distilled versions take 25 steps: say so in a `pinco.json`."""
        side = USUAL_VAE_SIDE * int(transformer["sample_size"])
        return GenerationDefaults(
            steps=50,
            guidance=0.0,
            true_cfg=5.0,
            max_sequence_length=int(transformer["text_len_t5"]),
            working_pixels=side * side,
        )

    def size_multiple(self, transformer: Config, vae: Config) -> int:
        """One patch of latent pixels."""
        return int(transformer["patch_size"]) * latent_side(vae)

    def sampling(
        self, pipe: Any, noise: Tensor, generators: Sequence[torch.Generator], dims: BackboneDims
    ) -> dict[str, Any]:
        """The noise in the transformer's dtype, to which the pipeline does not cast it, and a generator per image.

        DDPM draws noise at every step; each image's goes on from the generator that its first noise was drawn from.
        """
        return {"latents": noise.to(pipe.transformer.dtype), "generator": list(generators)}

    def renoise(self, scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
        """Diffusion: noised to the timestep that follows the step; after the last one the latents are clean."""
        following = scheduler.timesteps[step + 1 : step + 2]
        if not len(following):
            return clean
        noised: Tensor = scheduler.add_noise(clean, noise.to(clean), following.to(clean.device))
        return noised

    def for_the_vae(self, pipe: Any, latents: Tensor, size: tuple[int, int], dims: BackboneDims) -> Tensor:
        """Without the scale alone, as the pipeline has it."""
        unscaled: Tensor = latents / pipe.vae.config.scaling_factor
        return unscaled

    def pictures(self, pipe: Any, decoded: Tensor) -> Any:
        """By way of the safety checker, where the checkpoint has one: what it finds unsafe becomes black."""
        decoded, unsafe = pipe.run_safety_checker(decoded, pipe._execution_device, pipe.transformer.dtype)
        signed = [True] * len(decoded) if unsafe is None else [not one for one in unsafe]
        return pipe.image_processor.postprocess(decoded, output_type="np", do_denormalize=signed)

    def encode_prompt(self, pipe: Any, prompt: str, max_sequence_length: int) -> Embeddings:
        """BERT's and T5's tokens `[1, L, D]` with their masks `[1, L]`.

        One of the two encoders may be absent; all its places are masked then, where the transformer puts its padding.

        Raises:
            TypeError: Both are absent.
        """
        import torch

        config, encoders = pipe.transformer.config, (pipe.text_encoder, pipe.text_encoder_2)
        if encoders == (None, None):
            raise TypeError("both text encoders are absent")
        sizes = ((config.text_len, config.cross_attention_dim), (config.text_len_t5, config.cross_attention_dim_t5))
        embeddings: dict[str, Any] = {}
        for number, (suffix, encoder, (length, width)) in enumerate(zip(("", "_2"), encoders, sizes, strict=True)):
            if encoder is None:
                device = pipe._execution_device
                tokens = torch.zeros(1, length, width, device=device, dtype=pipe.transformer.dtype)
                mask = torch.zeros(1, length, device=device, dtype=torch.long)
            else:
                tokens, _, mask, _ = pipe.encode_prompt(
                    prompt,
                    dtype=pipe.transformer.dtype,
                    do_classifier_free_guidance=False,
                    max_sequence_length=length,
                    text_encoder_index=number,
                )
            embeddings |= {f"prompt_embeds{suffix}": tokens, f"prompt_attention_mask{suffix}": mask}
        return embeddings

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """Classifier-free guidance; the size of the image is left alone."""
        return {"guidance_scale": request.true_cfg, "use_resolution_binning": False}


FAMILY = HunyuanPipelineFamily()
