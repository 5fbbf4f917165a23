"""Tiny random Hunyuan-DiT parts."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
from torch import nn
from transformers import BertConfig, BertModel

from pinco.toy.model.text import WIDTH, new_t5, new_tokenizer
from pinco.toy.model.untrained import untrained_vae

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


def new_pipe(**transformer: Any) -> HunyuanDiTPipeline:
    """A whole pipeline, always with the same weights, with the released weights' scheduler."""
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
        scheduler=DDPMScheduler(
            beta_start=0.00085,
            beta_end=0.018,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=new_t5(tokenizer),
        tokenizer_2=tokenizer,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
