"""Tiny random Z-Image parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model

from pinco.adapter.tokens import pack, unpack
from pinco.toy.model.untrained import untrained_vae
from pinco.training.dataset import Batch
from pinco.training.losses import Noised
from tests.families.flux2 import TEXT_WIDTH, new_qwen_tokenizer


def new_transformer(**changes: Any) -> ZImageTransformer2DModel:
    """1 refining and 2 joint blocks, 2 heads of 16, always with the same weights; `changes` go to the config."""
    torch.manual_seed(1)
    config: dict[str, Any] = dict(
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=TEXT_WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[640, 32, 32],
    )
    transformer: ZImageTransformer2DModel = ZImageTransformer2DModel(**(config | changes)).eval()
    with torch.no_grad():  # random where training starts at one or zero
        transformer.x_pad_token.normal_()
        transformer.cap_pad_token.normal_()
        for name, parameter in transformer.named_parameters():
            if "norm" in name and name.endswith("weight") and parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
        for embedder in transformer.all_x_embedder.values():  # tokens without a mean, as they nearly are in width 3840
            embedder.weight -= embedder.weight.mean(dim=0)
            embedder.bias -= embedder.bias.mean()
    return transformer


def new_pipe(**transformer: Any) -> ZImagePipeline:
    """A whole pipeline, always with the same weights."""
    torch.manual_seed(7)
    tokenizer = new_qwen_tokenizer()
    text_encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.5,
        )
    ).eval()
    pipe = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=untrained_vae(scaling_factor=0.9, shift_factor=0.05).eval(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=new_transformer(**transformer),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def velocity(
    transformer: ZImageTransformer2DModel, noised: Noised, batch: Batch, extra: Mapping[str, Any] | None = None
) -> torch.Tensor:
    """The transformer's velocity `[B, N, D]`, called the way `ZImagePipeline` calls it: time runs towards the image."""
    out = transformer(
        list(unpack(noised.x_t, 2, batch.grid).unsqueeze(2)),
        1 - noised.sigma,
        list(batch.sequence),
        return_dict=False,
        **(extra or {}),
    )[0]
    return -pack(torch.stack(out).squeeze(2), 2)
