"""Flux for the shared suite: 2 double and 2 single blocks, 2 heads of 16."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor

from pinco.adapter.tokens import pack
from pinco.toy.model.untrained import untrained_transformer
from tests.pinco.adapter.suite import AdapterSuite, Inputs

TEXT_TOKENS = 3


class ForeignProcessor(FluxAttnProcessor):
    """A subclass of the stock processor is foreign too: what it adds would be lost."""


class FluxSuite(AdapterSuite):
    vae_config: ClassVar = {"block_out_channels": (1, 1, 1, 1), "latent_channels": 16}
    depths: ClassVar = ({}, {"num_layers": 4, "num_single_layers": 4})
    batched = ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep", "guidance")
    full_precision = ("img_ids", "txt_ids", "timestep")
    other_sizes: ClassVar = [
        {"num_layers": 1},
        {"num_single_layers": 3},
        {"num_attention_heads": 1},
        {"attention_head_dim": 32, "axes_dims_rope": (8, 12, 12), "num_attention_heads": 1},
        {"in_channels": 16},
    ]
    other_vae = (
        {"block_out_channels": (1,) * 4, "latent_channels": 4},
        "VAE makes 4 latent channels, the transformer takes 16",
    )

    def new_backbone(self, **changes: Any) -> FluxTransformer2DModel:
        torch.manual_seed(1)
        sizes = {"num_layers": 2, "num_single_layers": 2, "joint_attention_dim": 8, "pooled_projection_dim": 8}
        model = untrained_transformer(**(sizes | changes)).requires_grad_(False)
        with torch.no_grad():  # random where training starts at one
            for name, parameter in model.named_parameters():
                if ".norm_k" in name or ".norm_q" in name:
                    parameter.uniform_(0.5, 1.5)
        return model

    def new_inputs(self, backbone: FluxTransformer2DModel, batch: int, grid: tuple[int, int]) -> Inputs:
        generator = torch.Generator().manual_seed(2)
        rows, columns = grid
        inputs: Inputs = dict(
            hidden_states=torch.randn(batch, rows * columns, 64, generator=generator),
            encoder_hidden_states=torch.randn(batch, TEXT_TOKENS, 8, generator=generator),
            pooled_projections=torch.randn(batch, 8, generator=generator),
            timestep=torch.rand(batch, generator=generator),
            img_ids=FluxPipeline._prepare_latent_image_ids(1, rows, columns, "cpu", torch.float32),
            txt_ids=torch.zeros(TEXT_TOKENS, 3),
            return_dict=False,
        )
        if backbone.config.guidance_embeds:
            inputs["guidance"] = torch.full((batch,), 4.0)  # exact in half precision
        return inputs

    def replace_processor(self, backbone: FluxTransformer2DModel) -> int:
        backbone.single_transformer_blocks[0].attn.set_processor(ForeignProcessor())
        return 2

    def first_layer_input(self, backbone: FluxTransformer2DModel, latents: Tensor) -> Tensor:
        guidance = (torch.tensor([3500.0]),) if backbone.config.guidance_embeds else ()
        conditioning = backbone.time_text_embed(torch.zeros(1), *guidance, torch.zeros(1, 8))
        embedded = backbone.x_embedder(pack(latents, 2))
        normed: Tensor = backbone.transformer_blocks[0].norm1(embedded, emb=conditioning)[0]
        return normed

    def own_keys_values(self, backbone: FluxTransformer2DModel, states: Tensor) -> tuple[Tensor, Tensor]:
        attention = backbone.transformer_blocks[0].attn
        keys = attention.norm_k(attention.to_k(states).unflatten(-1, (2, 16)))
        return keys, attention.to_v(states).unflatten(-1, (2, 16))
