"""The toy without training: the same layout with random weights, much smaller. For tests and for finding one's way."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel

from pinco.adapter.adapter import PincoAdapter
from pinco.toy.drawing.places import PLACES
from pinco.toy.model.assemble import ToyParts
from pinco.toy.model.instruments import PlaceClassifier, Segmenter
from pinco.toy.model.text import WIDTH, new_clip, new_t5, new_tokenizer


def untrained_parts(seed: int = 0) -> ToyParts:
    """Random parts from a seed; the gates are open, so that the adapter has a say in the pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(
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
        transformer = FluxTransformer2DModel(
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
