"""Stable Diffusion 3 for the shared suite."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import Tensor

from tests.families.sd3 import LAYOUTS, new_transformer
from tests.pinco.adapter.suite import AdapterSuite, Inputs

TEXT_TOKENS = 3


class ForeignProcessor(JointAttnProcessor2_0):
    """A subclass of the stock processor is foreign too: what it adds would be lost."""


class SD3Suite(AdapterSuite):
    """One of the released layouts.

    Attributes:
        layout: Its name.
    """

    layout: ClassVar[str]
    vae_config: ClassVar = {"block_out_channels": (1, 1, 1, 1), "latent_channels": 16}
    depths: ClassVar = ({"num_layers": 3}, {"num_layers": 5})
    repeated: ClassVar = ["JointTransformerBlock"]
    batched = ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep")
    full_precision = ("timestep",)
    other_sizes: ClassVar = [
        {"num_layers": 3},
        {"num_attention_heads": 1, "caption_projection_dim": 16},
        {"attention_head_dim": 32, "num_attention_heads": 1},
        {"in_channels": 8},
        {"patch_size": 4},
    ]
    other_vae = (
        {"block_out_channels": (1,) * 4, "latent_channels": 4},
        "VAE makes 4 latent channels, the transformer takes 16",
    )

    def new_backbone(self, **changes: Any) -> SD3Transformer2DModel:
        return new_transformer(**(LAYOUTS[self.layout] | changes)).requires_grad_(False)

    def new_inputs(self, backbone: SD3Transformer2DModel, batch: int, grid: tuple[int, int]) -> Inputs:
        generator = torch.Generator().manual_seed(2)
        config = backbone.config
        size = [side * config.patch_size for side in grid]
        return dict(
            hidden_states=torch.randn(batch, config.in_channels, *size, generator=generator),
            encoder_hidden_states=torch.randn(batch, TEXT_TOKENS, config.joint_attention_dim, generator=generator),
            pooled_projections=torch.randn(batch, config.pooled_projection_dim, generator=generator),
            timestep=1000 * torch.rand(batch, generator=generator),
            return_dict=False,
        )

    def replace_processor(self, backbone: SD3Transformer2DModel) -> int:
        backbone.transformer_blocks[1].attn.set_processor(ForeignProcessor())
        return 1

    def first_layer_input(self, backbone: SD3Transformer2DModel, latents: Tensor) -> Tensor:
        conditioning = backbone.time_text_embed(torch.zeros(1), torch.zeros(1, backbone.config.pooled_projection_dim))
        embedded = backbone.pos_embed.proj(latents).flatten(2).transpose(1, 2)
        normed: Tensor = backbone.transformer_blocks[0].norm1(embedded, emb=conditioning)[0]
        return normed

    def own_keys_values(self, backbone: SD3Transformer2DModel, states: Tensor) -> tuple[Tensor, Tensor]:
        attention = backbone.transformer_blocks[0].attn
        keys, values = (project(states).unflatten(-1, (2, 16)) for project in (attention.to_k, attention.to_v))
        return keys if attention.norm_k is None else attention.norm_k(keys), values
