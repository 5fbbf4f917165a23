"""The toy without training: the same layout with random weights, much smaller. For tests and for finding one's way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel

from pinco.adapter.adapter import PincoAdapter
from pinco.evaluation.segmenter import Segmenter
from pinco.toy.drawing.places import PLACES
from pinco.toy.model.assemble import ToyParts
from pinco.toy.model.instruments import PlaceClassifier
from pinco.toy.model.text import WIDTH, new_clip, new_t5, new_tokenizer


def untrained_transformer(**changes: Any) -> FluxTransformer2DModel:
    """A tiny random transformer of the toy's layout; `changes` go to its config."""
    config: dict[str, Any] = dict(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(4, 6, 6),
    )
    transformer: FluxTransformer2DModel = FluxTransformer2DModel(**(config | changes))
    return transformer


def untrained_vae(**changes: Any) -> AutoencoderKL:
    """A tiny random autoencoder of the toy's layout; `changes` go to its config."""
    config: dict[str, Any] = dict(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )
    vae: AutoencoderKL = AutoencoderKL(**(config | changes))
    return vae


def untrained_parts(
    seed: int = 0, *, vae_changes: Mapping[str, Any] | None = None, transformer_changes: Mapping[str, Any] | None = None
) -> ToyParts:
    """Random parts; the gates are open, so that the adapter has a say in the pictures.

    Args:
        seed: Of all weights.
        vae_changes: To the autoencoder's config.
        transformer_changes: To the transformer's config.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = untrained_vae(**(vae_changes or {}))
        transformer = untrained_transformer(**(transformer_changes or {}))
        tokenizer = new_tokenizer()
        adapter = PincoAdapter.for_backbone(transformer, vae.config, prune=False)
        with torch.no_grad():
            for group in adapter.parameter_groups(1.0):
                if group["name"] == "gates":
                    for gate in group["params"]:
                        gate.fill_(0.5)
        return ToyParts(
            vae,
            new_clip(tokenizer),
            new_t5(tokenizer),
            tokenizer,
            transformer,
            adapter,
            Segmenter(channels=(8, 8, 8, 8)),
            PlaceClassifier(tuple(PLACES), channels=(8, 8, 8, 8)),
        )


def make_untrained(out: Path, seed: int = 0) -> Path:
    """Write a complete untrained toy (`backbone/`, `adapter/`, `segmenter/`, `classifier/`) to `out`; returns `out`."""
    untrained_parts(seed).save(out)
    return out
