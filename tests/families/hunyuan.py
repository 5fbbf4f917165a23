"""Tiny random Hunyuan-DiT parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
from torch import nn
from transformers import BertConfig, BertModel

from pinco.adapter.families.hunyuan import FAMILY
from pinco.adapter.positions import Rotary
from pinco.adapter.tokens import pack, unpack
from pinco.toy.model.text import WIDTH, new_t5, new_tokenizer
from pinco.toy.model.untrained import untrained_vae
from pinco.training.dataset import Batch
from pinco.training.losses import Noised

BERT_WIDTH = 32


def new_transformer(**changes: Any) -> HunyuanDiT2DModel:
    """Four blocks, the last with a skip connection, 2 heads of 16, always with the same weights.

    `changes` go to the config.
    """
    torch.manual_seed(1)
    config: dict[str, Any] = dict(
        num_attention_heads=2,
        attention_head_dim=16,
        hidden_size=32,
        in_channels=4,
        patch_size=2,
        sample_size=16,
        num_layers=4,
        cross_attention_dim=BERT_WIDTH,
        cross_attention_dim_t5=WIDTH,
        pooled_projection_dim=8,
        text_len=77,
        text_len_t5=256,
        use_style_cond_and_image_meta_size=False,
    )
    transformer = HunyuanDiT2DModel(**(config | changes)).eval()
    with torch.no_grad():  # random where training starts at one and zero
        for module in transformer.modules():
            if isinstance(module, nn.LayerNorm) and module.elementwise_affine:
                module.weight.uniform_(0.8, 1.2)
                module.bias.uniform_(-0.1, 0.1)
    return transformer


def new_scheduler() -> DDPMScheduler:
    """That of the released weights."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.018,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        steps_offset=1,
    )


def new_pipe(**transformer: Any) -> HunyuanDiTPipeline:
    """A whole pipeline, always with the same weights."""
    torch.manual_seed(7)
    tokenizer = new_tokenizer()
    bert = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=BERT_WIDTH,
            intermediate_size=2 * BERT_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=77,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()
    pipe = HunyuanDiTPipeline(
        vae=untrained_vae(latent_channels=4, scaling_factor=0.9, shift_factor=None).eval(),
        text_encoder=bert,
        tokenizer=tokenizer,
        transformer=new_transformer(**transformer),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=new_t5(tokenizer),
        tokenizer_2=tokenizer,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def velocity(
    transformer: HunyuanDiT2DModel, noised: Noised, batch: Batch, extra: Mapping[str, Any] | None = None
) -> torch.Tensor:
    """The velocity of rectified flow `[B, N, D]`, from a transformer that predicts that of diffusion.

    Divided by `n = sqrt((1 - sigma)^2 + sigma^2)`, flow's `x_t = (1 - sigma) x0 + sigma eps` is diffusion's
    `x = a x0 + s eps` with `a^2 + s^2 = 1`. With `v = a eps - s x0` (arXiv 2202.00512) it follows that
    `eps - x0 = (s - a) x + (a + s) v`.
    """
    patch, config = transformer.config.patch_size, transformer.config
    norm = ((1 - noised.sigma) ** 2 + noised.sigma**2).sqrt()
    a, s = ((share / norm)[:, None, None] for share in (1 - noised.sigma, noised.sigma))
    x = noised.x_t / norm[:, None, None]
    levels = new_scheduler().alphas_cumprod.sqrt()
    timestep = (levels[None] - a[:, :, 0]).abs().argmin(dim=1)
    bert = batch.sequence[:, : config.text_len, : config.cross_attention_dim]
    t5 = batch.sequence[:, -config.text_len_t5 :].contiguous()
    positions = FAMILY.positions(transformer, batch.grid, x.device)
    assert isinstance(positions, Rotary)
    out = transformer(
        unpack(x, patch, batch.grid),
        timestep.float(),
        encoder_hidden_states=bert,
        text_embedding_mask=torch.ones(bert.shape[:2]),
        encoder_hidden_states_t5=t5,
        text_embedding_mask_t5=torch.ones(t5.shape[:2]),
        image_rotary_emb=(positions.cos, positions.sin),
        return_dict=False,
        **(extra or {}),
    )[0]
    v = pack(out.chunk(2, dim=1)[0], patch)  # the other half is the variance (`learn_sigma`)
    return (s - a) * x + (a + s) * v
