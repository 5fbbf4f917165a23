"""Drawn latents for short trainings: a ground that the prompt decides, and a product that only the subject shows."""

from __future__ import annotations

import torch

from pinco.adapter.config import BackboneDims
from pinco.adapter.tokens import pack
from pinco.training.dataset import Bucket, CachedDataset, TextTable

GRID = (6, 6)
PROMPTS, TEXT_TOKENS = 3, 7


def new_scenes(dims: BackboneDims, count: int, seed: int, text_width: int, pooled_width: int) -> CachedDataset:
    """Scenes with one rectangular product each, two to three tokens a side, of two random colours.

    Args:
        dims: Of the backbone.
        count: How many.
        seed: Of places and colours; prompts and their grounds are always the same.
        text_width: Of the text's tokens.
        pooled_width: Of the pooled text.
    """
    fixed = torch.Generator().manual_seed(17)
    grounds = torch.randn(PROMPTS, dims.latent_channels, 1, 1, generator=fixed)
    texts = TextTable(
        torch.cat((torch.zeros(1, pooled_width), torch.randn(PROMPTS, pooled_width, generator=fixed))),
        torch.cat(
            (torch.zeros(1, TEXT_TOKENS, text_width), torch.randn(PROMPTS, TEXT_TOKENS, text_width, generator=fixed))
        ),
    )
    generator = torch.Generator().manual_seed(seed)
    rows, columns = GRID
    patch, stride = dims.patch_size, dims.token_stride
    text = torch.randint(PROMPTS, (count,), generator=generator)
    latents = grounds[text].expand(-1, -1, rows * patch, columns * patch).clone()
    subjects = torch.zeros_like(latents)
    maps = torch.zeros(count, 3, rows * stride, columns * stride, dtype=torch.uint8)
    for number in range(count):
        high, wide = (int(side) for side in torch.randint(2, 4, (2,), generator=generator))
        top = int(torch.randint(rows - high + 1, (1,), generator=generator))
        left = int(torch.randint(columns - wide + 1, (1,), generator=generator))
        colours = 1.5 * torch.randn(2, dims.latent_channels, 1, 1, generator=generator)
        product = colours[:1].repeat(1, 1, high * patch, wide * patch)[0]
        product[:, patch:] = colours[1]
        place = slice(top * patch, (top + high) * patch), slice(left * patch, (left + wide) * patch)
        latents[(number, slice(None), *place)] = subjects[(number, slice(None), *place)] = product
        covered = slice(top * stride, (top + high) * stride), slice(left * stride, (left + wide) * stride)
        maps[(number, 0, *covered)] = 255
        maps[(number, 1, *covered)] = 200
    bucket = Bucket(pack(latents, patch), subjects, maps, text + 1, GRID)
    return CachedDataset(
        {(columns * stride, rows * stride): bucket}, texts, prompt_dropout=0.0, token_pixels=dims.token_stride
    )
