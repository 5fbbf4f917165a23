"""One step's inputs for the transformers of `bench/configs`: random, at the sizes of a published pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import Flux2KleinPipeline, FluxPipeline
from torch import Tensor

from pinco.adapter.families import family_of

FLUX_TEXT, SD3_TEXT, FLUX2_TEXT, Z_TEXT = 512, 77 + 256, 512, 256


def step_inputs(transformer: Any, grid: tuple[int, int]) -> dict[str, Any]:
    """Keyword arguments of one forward.

    Args:
        transformer: Of a class below.
        grid: Rows and columns of tokens.
    """
    return _BY_CLASS[type(transformer).__name__](transformer, grid)


def _random(transformer: Any, *shape: int) -> Tensor:
    return torch.randn(*shape, device=transformer.device, dtype=transformer.dtype)


def _flux(transformer: Any, grid: tuple[int, int]) -> dict[str, Any]:
    config, (rows, columns) = transformer.config, grid
    device = transformer.device
    guidance = {"guidance": torch.full((1,), 3.5, device=device)} if config.guidance_embeds else {}
    return dict(
        hidden_states=_random(transformer, 1, rows * columns, config.in_channels),
        encoder_hidden_states=_random(transformer, 1, FLUX_TEXT, config.joint_attention_dim),
        pooled_projections=_random(transformer, 1, config.pooled_projection_dim),
        timestep=torch.full((1,), 0.5, device=device, dtype=transformer.dtype),
        img_ids=FluxPipeline._prepare_latent_image_ids(1, rows, columns, device, transformer.dtype),
        txt_ids=torch.zeros(FLUX_TEXT, 3, device=device),
        return_dict=False,
        **guidance,
    )


def _flux2(transformer: Any, grid: tuple[int, int]) -> dict[str, Any]:
    config, (rows, columns) = transformer.config, grid
    text = _random(transformer, 1, FLUX2_TEXT, config.joint_attention_dim)
    device = transformer.device
    guidance = {"guidance": torch.full((1,), 4.0, device=device)} if config.guidance_embeds else {}
    return dict(
        hidden_states=_random(transformer, 1, rows * columns, config.in_channels),
        encoder_hidden_states=text,
        timestep=torch.full((1,), 0.5, device=device, dtype=transformer.dtype),
        img_ids=Flux2KleinPipeline._prepare_latent_ids(torch.zeros(1, 1, rows, columns)).to(device),
        txt_ids=Flux2KleinPipeline._prepare_text_ids(text).to(device),
        return_dict=False,
        **guidance,
    )


def _sd3(transformer: Any, grid: tuple[int, int]) -> dict[str, Any]:
    config = transformer.config
    size = [side * config.patch_size for side in grid]
    return dict(
        hidden_states=_random(transformer, 1, config.in_channels, *size),
        encoder_hidden_states=_random(transformer, 1, SD3_TEXT, config.joint_attention_dim),
        pooled_projections=_random(transformer, 1, config.pooled_projection_dim),
        timestep=torch.full((1,), 500.0, device=transformer.device),
        return_dict=False,
    )


def _hunyuan(transformer: Any, grid: tuple[int, int]) -> dict[str, Any]:
    config = transformer.config
    size = [side * config.patch_size for side in grid]
    table = family_of(transformer).positions(transformer, grid, transformer.device)
    lengths = {"": config.text_len, "_t5": config.text_len_t5}
    widths = {"": config.cross_attention_dim, "_t5": config.cross_attention_dim_t5}
    text = {f"encoder_hidden_states{n}": _random(transformer, 1, lengths[n], widths[n]) for n in lengths}
    masks = {
        f"text_embedding_mask{n}": torch.ones(1, length, device=transformer.device) for n, length in lengths.items()
    }
    return dict(
        hidden_states=_random(transformer, 1, config.in_channels, *size),
        timestep=torch.full((1,), 500.0, device=transformer.device),
        image_rotary_emb=(table.cos, table.sin),
        return_dict=False,
        **text,
        **masks,
    )


def _z_image(transformer: Any, grid: tuple[int, int]) -> dict[str, Any]:
    config, (rows, columns) = transformer.config, grid
    return dict(
        x=[_random(transformer, config.in_channels, 1, 2 * rows, 2 * columns)],
        t=torch.full((1,), 0.5, device=transformer.device),
        cap_feats=[_random(transformer, Z_TEXT, config.cap_feat_dim)],
        return_dict=False,
    )


_BY_CLASS: dict[str, Callable[[Any, tuple[int, int]], dict[str, Any]]] = {
    "FluxTransformer2DModel": _flux,
    "Flux2Transformer2DModel": _flux2,
    "SD3Transformer2DModel": _sd3,
    "HunyuanDiT2DModel": _hunyuan,
    "ZImageTransformer2DModel": _z_image,
}
