"""Tiny random Stable Diffusion 3 parts, in the layouts of the three released sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from pinco.adapter.tokens import pack, unpack
from pinco.toy.model.text import MAX_LENGTH, WIDTH, new_t5, new_tokenizer
from pinco.toy.model.untrained import untrained_vae
from pinco.training.dataset import Batch
from pinco.training.losses import Noised

LAYOUTS: dict[str, dict[str, Any]] = {
    "sd3-medium": {"qk_norm": None, "dual_attention_layers": ()},
    "sd3.5-medium": {"qk_norm": "rms_norm", "dual_attention_layers": (0,)},
    "sd3.5-large": {"qk_norm": "rms_norm", "dual_attention_layers": ()},
}
CLIP_WIDTHS = (32, 64)


def new_transformer(**changes: Any) -> SD3Transformer2DModel:
    """Two blocks, 2 heads of 16, always with the same weights; `changes` go to the config."""
    torch.manual_seed(1)
    config: dict[str, Any] = dict(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=sum(CLIP_WIDTHS),
        pos_embed_max_size=24,
        **LAYOUTS["sd3.5-medium"],
    )
    transformer = SD3Transformer2DModel(**(config | changes)).eval()
    with torch.no_grad():  # random where training starts at one; gates that let the attentions have a say
        for name, parameter in transformer.named_parameters():
            if ".norm_k" in name or ".norm_q" in name:
                parameter.uniform_(0.5, 1.5)
            elif ".norm1.linear" in name:
                parameter.mul_(4)
    return transformer


def new_clip(tokenizer: PreTrainedTokenizerFast, width: int) -> CLIPTextModelWithProjection:
    """A text encoder whose projection is as wide as its hidden states, as in all of SD3's."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_factor=8.0,
        )
    ).eval()


def new_pipe(**transformer: Any) -> StableDiffusion3Pipeline:
    """A whole pipeline, always with the same weights."""
    torch.manual_seed(7)
    tokenizer = new_tokenizer()
    vae = untrained_vae(scaling_factor=0.9, shift_factor=0.05).eval()
    clip, clip_2 = (new_clip(tokenizer, width) for width in CLIP_WIDTHS)
    pipe = StableDiffusion3Pipeline(
        transformer=new_transformer(**transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=clip,
        tokenizer=tokenizer,
        text_encoder_2=clip_2,
        tokenizer_2=tokenizer,
        text_encoder_3=new_t5(tokenizer),
        tokenizer_3=tokenizer,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def velocity(
    transformer: SD3Transformer2DModel, noised: Noised, batch: Batch, extra: Mapping[str, Any] | None = None
) -> torch.Tensor:
    """The transformer's velocity `[B, N, D]`, called the way `StableDiffusion3Pipeline` calls it."""
    patch = transformer.config.patch_size
    out = transformer(
        hidden_states=unpack(noised.x_t, patch, batch.grid),
        timestep=1000 * noised.sigma,
        encoder_hidden_states=batch.sequence,
        pooled_projections=batch.pooled,
        return_dict=False,
        **(extra or {}),
    )[0]
    return pack(out, patch)
