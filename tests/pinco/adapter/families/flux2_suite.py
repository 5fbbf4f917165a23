"""Flux 2 for the shared suite: 2 double and 2 single blocks, 2 heads of 16."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel
from diffusers.models.transformers.transformer_flux2 import Flux2Modulation, Flux2ParallelSelfAttnProcessor
from torch import Tensor

from pinco.adapter.families.flux2 import CLEAN_GUIDANCE
from pinco.adapter.tokens import pack
from tests.families.flux2 import new_transformer
from tests.pinco.adapter.suite import AdapterSuite, Inputs

TEXT_TOKENS = 3
TEXT_WIDTH = 8


class ForeignProcessor(Flux2ParallelSelfAttnProcessor):
    """A subclass of the stock processor is foreign too: what it adds would be lost."""


class Flux2Suite(AdapterSuite):
    vae_config: ClassVar = {"block_out_channels": (1, 1, 1, 1), "latent_channels": 8}
    depths: ClassVar = ({}, {"num_layers": 4, "num_single_layers": 4})
    batched = ("hidden_states", "encoder_hidden_states", "timestep", "guidance", "img_ids", "txt_ids")
    full_precision = ("img_ids", "txt_ids", "timestep")
    other_sizes: ClassVar = [
        {"num_layers": 1},
        {"num_single_layers": 3},
        {"num_attention_heads": 1},
        {"attention_head_dim": 32, "axes_dims_rope": (8, 8, 8, 8), "num_attention_heads": 1},
        {"in_channels": 16},
    ]
    other_vae = (
        {"block_out_channels": (1,) * 4, "latent_channels": 16},
        "VAE makes 16 latent channels, the transformer takes 8",
    )

    def new_backbone(self, **changes: Any) -> Flux2Transformer2DModel:
        return new_transformer(**({"joint_attention_dim": TEXT_WIDTH} | changes)).requires_grad_(False)

    def new_inputs(self, backbone: Flux2Transformer2DModel, batch: int, grid: tuple[int, int]) -> Inputs:
        generator = torch.Generator().manual_seed(2)
        rows, columns = grid
        text = torch.randn(batch, TEXT_TOKENS, TEXT_WIDTH, generator=generator)
        inputs: Inputs = dict(
            hidden_states=torch.randn(batch, rows * columns, backbone.config.in_channels, generator=generator),
            encoder_hidden_states=text,
            timestep=torch.tensor([0.25, 0.5, 0.75])[:batch],  # and 1000 times as much, exact in half precision
            img_ids=Flux2KleinPipeline._prepare_latent_ids(torch.zeros(batch, 1, rows, columns)),
            txt_ids=Flux2KleinPipeline._prepare_text_ids(text),
            return_dict=False,
        )
        if backbone.config.guidance_embeds:
            inputs["guidance"] = torch.full((batch,), 4.0)  # exact in half precision
        return inputs

    def replace_processor(self, backbone: Flux2Transformer2DModel) -> int:
        backbone.single_transformer_blocks[0].attn.set_processor(ForeignProcessor())
        return 2

    def modulated(self, backbone: Flux2Transformer2DModel, number: int, states: Tensor) -> Tensor:
        """What the attention of a layer gets for these image tokens, at noise level zero."""
        guidance = torch.tensor([CLEAN_GUIDANCE * 1000]) if backbone.config.guidance_embeds else None
        conditioning = backbone.time_guidance_embed(torch.zeros(1), guidance)
        blocks = (*backbone.transformer_blocks, *backbone.single_transformer_blocks)
        if number < len(backbone.transformer_blocks):
            norm, (parameters, _) = (
                blocks[number].norm1,
                Flux2Modulation.split(backbone.double_stream_modulation_img(conditioning), 2),
            )
        else:
            norm, (parameters,) = (
                blocks[number].norm,
                Flux2Modulation.split(backbone.single_stream_modulation(conditioning), 1),
            )
        shift, scale, _ = parameters
        modulated: Tensor = (1 + scale) * norm(states) + shift
        return modulated

    def first_layer_input(self, backbone: Flux2Transformer2DModel, latents: Tensor) -> Tensor:
        return self.modulated(backbone, 0, backbone.x_embedder(pack(latents, 2)))

    def own_keys_values(self, backbone: Flux2Transformer2DModel, states: Tensor) -> tuple[Tensor, Tensor]:
        attention = backbone.transformer_blocks[0].attn
        keys = attention.norm_k(attention.to_k(states).unflatten(-1, (2, 16)))
        return keys, attention.to_v(states).unflatten(-1, (2, 16))
