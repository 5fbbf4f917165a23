"""Tiny random weights for the methods fill and controlnet: a Fill checkpoint, and inpainting ControlNets."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxFillPipeline, SD3ControlNetModel
from torch import nn

from pinco.pipelines.controlnets.flux import masked_controlnet
from pinco.toy.model.untrained import untrained_parts
from tests.families import sd3

LATENT_CHANNELS = 16
SIDE = 8


def new_flux(**transformer: Any) -> Any:
    """A text-to-image pipeline whose latents are shifted and scaled, always with the same weights."""
    vae = {"scaling_factor": 0.9, "shift_factor": 0.05, "latent_channels": LATENT_CHANNELS}
    pipe = untrained_parts(7, vae_changes=vae, transformer_changes=transformer).pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def new_fill(**changes: Any) -> FluxFillPipeline:
    """A Fill checkpoint: noisy latents, known latents and an 8 x 8 mask for each latent pixel, in 2 x 2 patches."""
    taken = 4 * (2 * LATENT_CHANNELS + SIDE**2)
    transformer = {"in_channels": taken, "out_channels": 4 * LATENT_CHANNELS, "guidance_embeds": True}
    vae = {"scaling_factor": 0.9, "shift_factor": 0.05, "latent_channels": LATENT_CHANNELS}
    parts = untrained_parts(7, vae_changes=vae)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = type(parts.transformer)(**{**parts.transformer.config, **transformer, **changes})
    components = parts.pipeline().components
    names = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    pipe = FluxFillPipeline(transformer=made, **{name: components[name] for name in names})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def new_flux_controlnet(pipe: Any, **changes: Any) -> Any:
    """With channels for the mask, as alimama-creative's; `changes` go to the config."""
    backbone = pipe.transformer.config
    same = (
        "num_attention_heads",
        "attention_head_dim",
        "joint_attention_dim",
        "pooled_projection_dim",
        "guidance_embeds",
        "axes_dims_rope",
        "in_channels",
    )
    config = {name: backbone[name] for name in same} | {"num_layers": 1, "num_single_layers": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return _with_a_say(masked_controlnet()(**(config | changes)))


def new_sd3_controlnet(**changes: Any) -> SD3ControlNetModel:
    """With one channel for the mask, as alimama-creative's; `changes` go to the config."""
    backbone = sd3.new_transformer().config
    same = (
        "sample_size",
        "patch_size",
        "in_channels",
        "out_channels",
        "attention_head_dim",
        "num_attention_heads",
        "joint_attention_dim",
        "caption_projection_dim",
        "pooled_projection_dim",
        "pos_embed_max_size",
    )
    config = {name: backbone[name] for name in same} | {"num_layers": 1, "extra_conditioning_channels": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return _with_a_say(SD3ControlNetModel(**(config | changes)))


def _with_a_say(controlnet: Any) -> Any:
    """Random where training starts at zero, so that the ControlNet changes the image."""
    with torch.no_grad():
        for name, module in controlnet.named_modules():
            if ("controlnet" in name or "pos_embed_input" in name) and isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.normal_(std=0.3)
    return controlnet.eval()
