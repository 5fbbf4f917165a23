"""Hunyuan-DiT for the shared suite."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import HunyuanDiT2DModel
from diffusers.models.attention_processor import HunyuanAttnProcessor2_0
from diffusers.models.embeddings import get_2d_rotary_pos_embed
from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid
from torch import Tensor

from tests.families.hunyuan import new_transformer
from tests.pinco.adapter.suite import AdapterSuite, Inputs

TEXT = {"text_len": 3, "text_len_t5": 4}


class ForeignProcessor(HunyuanAttnProcessor2_0):
    """A subclass of the stock processor is foreign too: what it adds would be lost."""


def pipeline_table(backbone: HunyuanDiT2DModel, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The rotary table, made as `HunyuanDiTPipeline.__call__` makes it."""
    base_size = 512 // 8 // backbone.config.patch_size
    table: tuple[Tensor, Tensor] = get_2d_rotary_pos_embed(
        backbone.inner_dim // backbone.num_heads,
        get_resize_crop_region_for_grid(grid, base_size),
        grid,
        device="cpu",
        output_type="pt",
    )
    return table


class HunyuanSuite(AdapterSuite):
    vae_config: ClassVar = {"block_out_channels": (1, 1, 1, 1), "latent_channels": 4}
    depths: ClassVar = ({"num_layers": 6}, {"num_layers": 8})
    repeated: ClassVar = ["HunyuanDiTBlock"]
    batched = (
        "hidden_states",
        "timestep",
        "encoder_hidden_states",
        "text_embedding_mask",
        "encoder_hidden_states_t5",
        "text_embedding_mask_t5",
        "image_meta_size",
        "style",
    )
    full_precision = ("image_rotary_emb",)
    other_sizes: ClassVar = [
        {"num_layers": 6},
        {"num_attention_heads": 4, "hidden_size": 64},
        {"attention_head_dim": 32, "num_attention_heads": 1},
        {"in_channels": 8},
        {"patch_size": 4},
    ]
    other_vae = (
        {"block_out_channels": (1,) * 4, "latent_channels": 16},
        "VAE makes 16 latent channels, the transformer takes 4",
    )
    checkpointing = False
    whole: ClassVar = ["HunyuanDiTAttentionPool"]

    def new_backbone(self, **changes: Any) -> HunyuanDiT2DModel:
        return new_transformer(**(TEXT | changes)).requires_grad_(False)

    def new_inputs(self, backbone: HunyuanDiT2DModel, batch: int, grid: tuple[int, int]) -> Inputs:
        generator = torch.Generator().manual_seed(2)
        config = backbone.config
        size = [side * config.patch_size for side in grid]
        bert_mask, t5_mask = (torch.ones(batch, length, dtype=torch.long) for length in TEXT.values())
        bert_mask[0, -1] = t5_mask[-1, 1:] = 0
        inputs: Inputs = dict(
            hidden_states=torch.randn(batch, config.in_channels, *size, generator=generator),
            timestep=1000 * torch.rand(batch, generator=generator),
            encoder_hidden_states=torch.randn(batch, 3, config.cross_attention_dim, generator=generator),
            text_embedding_mask=bert_mask,
            encoder_hidden_states_t5=torch.randn(batch, 4, config.cross_attention_dim_t5, generator=generator),
            text_embedding_mask_t5=t5_mask,
            image_rotary_emb=pipeline_table(backbone, grid),
            return_dict=False,
        )
        if config.use_style_cond_and_image_meta_size:
            inputs["image_meta_size"] = torch.tensor([[128.0, 128.0, 128.0, 128.0, 0.0, 0.0]]).repeat(batch, 1)
            inputs["style"] = torch.zeros(batch, dtype=torch.long)
        return inputs

    def replace_processor(self, backbone: HunyuanDiT2DModel) -> int:
        backbone.blocks[1].attn1.set_processor(ForeignProcessor())
        return 1

    def first_layer_input(self, backbone: HunyuanDiT2DModel, latents: Tensor) -> Tensor:
        config = backbone.config
        text = torch.zeros(1, config.text_len_t5, config.cross_attention_dim_t5)
        sizes, style = torch.tensor([[128.0, 128.0, 128.0, 128.0, 0.0, 0.0]]), torch.zeros(1, dtype=torch.long)
        conditioning = backbone.time_extra_emb(torch.zeros(1), text, sizes, style, hidden_dtype=torch.float32)
        embedded = backbone.pos_embed.proj(latents).flatten(2).transpose(1, 2)
        normed: Tensor = backbone.blocks[0].norm1(embedded, conditioning)
        return normed

    def own_keys_values(self, backbone: HunyuanDiT2DModel, states: Tensor) -> tuple[Tensor, Tensor]:
        attention = backbone.blocks[0].attn1
        keys = attention.norm_k(attention.to_k(states).unflatten(-1, (2, 16)))
        return keys, attention.to_v(states).unflatten(-1, (2, 16))
