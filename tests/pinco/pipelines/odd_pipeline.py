"""A pipeline for the odd transformer, and its family: nothing in `pinco.pipelines` knows it.

Latents `[B, C, h, w]`, a VAE without a shift, one text encoder with a mask, classifier-free guidance in one doubled
batch, a diffusion schedule with v-prediction instead of rectified flow. One token is 8 x 8 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from pinco.adapter import PincoAdapter
from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families import register
from pinco.pipelines.families.base import Config, Embeddings, PipelineFamily, latent_side
from pinco.pipelines.request import GenerationRequest
from pinco.toy.model.text import MAX_LENGTH, WIDTH, new_t5, new_tokenizer
from pinco.toy.model.untrained import untrained_vae
from tests.pinco.adapter.odd_family import OddTransformer

Callback = Callable[[Any, int, Any, dict[str, Tensor]], dict[str, Tensor]]


class OddPipeline(DiffusionPipeline):
    _callback_tensor_inputs = ("latents",)

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: T5EncoderModel,
        tokenizer: PreTrainedTokenizerFast,
        transformer: OddTransformer,
        scheduler: DDIMScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, transformer=transformer, scheduler=scheduler
        )
        self.image_processor = VaeImageProcessor()

    def encode_prompt(self, prompt: str, length: int) -> tuple[Tensor, Tensor]:
        tokens = self.tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        mask = tokens.attention_mask.bool().to(self._execution_device)
        return self.text_encoder(tokens.input_ids.to(self._execution_device)).last_hidden_state, mask

    @torch.no_grad()
    def __call__(
        self,
        prompt_embeds: Tensor,
        prompt_mask: Tensor,
        latents: Tensor,
        width: int,
        height: int,
        num_inference_steps: int,
        guidance_scale: float = 1.0,
        negative_prompt_embeds: Tensor | None = None,
        negative_prompt_mask: Tensor | None = None,
        callback_on_step_end: Callback | None = None,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> tuple[Any]:
        guided = negative_prompt_embeds is not None
        if guided:
            prompt_embeds = torch.cat((negative_prompt_embeds, prompt_embeds))
            prompt_mask = torch.cat((negative_prompt_mask, prompt_mask))
        latents = latents.to(self._execution_device, prompt_embeds.dtype)
        self.scheduler.set_timesteps(num_inference_steps)
        for step, timestep in enumerate(self.scheduler.timesteps):
            given = torch.cat([latents] * 2) if guided else latents
            velocity = self.transformer(
                given, (timestep / 1000).expand(len(given)), prompt_embeds, prompt_mask, return_dict=False
            )[0]
            if guided:
                without, with_prompt = velocity.chunk(2)
                velocity = without + guidance_scale * (with_prompt - without)
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, step, timestep, {"latents": latents})["latents"]
        if output_type == "latent":
            return (latents,)
        pixels = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return (self.image_processor.postprocess(pixels, output_type=output_type),)


class OddPipelineFamily(PipelineFamily):
    pipelines = ("OddPipeline",)
    packed = False

    def usual(self, transformer: Config) -> GenerationDefaults:
        return GenerationDefaults(
            steps=3, guidance=0.0, true_cfg=2.0, max_sequence_length=MAX_LENGTH, working_pixels=64 * 64
        )

    def size_multiple(self, transformer: Config, vae: Config) -> int:
        return int(transformer["patch_size"]) * latent_side(vae)

    def pipeline_class(self, name: str) -> Any:
        return OddPipeline

    def renoise(self, scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
        timesteps = scheduler.timesteps
        if step + 1 == len(timesteps):
            return clean
        return scheduler.add_noise(clean, noise.to(clean), timesteps[step + 1])

    def encode_prompt(self, pipe: Any, prompt: str, max_sequence_length: int) -> Embeddings:
        tokens, mask = pipe.encode_prompt(prompt, max_sequence_length)
        return {"prompt_embeds": tokens, "prompt_mask": mask}

    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        return {"guidance_scale": request.true_cfg}


FAMILY = register(OddPipelineFamily())


def make_odd_pipe() -> OddPipeline:
    """A tiny random pipeline, always with the same weights."""
    torch.manual_seed(9)
    tokenizer = new_tokenizer()
    return OddPipeline(
        vae=untrained_vae(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            latent_channels=4,
            scaling_factor=0.8,
            shift_factor=None,
        ).eval(),
        text_encoder=new_t5(tokenizer),
        tokenizer=tokenizer,
        transformer=OddTransformer(text_width=WIDTH).eval(),
        scheduler=DDIMScheduler(prediction_type="v_prediction"),
    )


def open_adapter(pipe: Any, **options: Any) -> PincoAdapter:
    """An adapter for a pipeline's backbone with open gates, not attached."""
    torch.manual_seed(8)
    options = {"shape_channels": 8, "mask_dilation": 0} | options
    made = PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config, **options)
    with torch.no_grad():
        for number in made.settings.layers:
            made.layer(number).gate.value.uniform_(0.5, 1.5)
    return made
