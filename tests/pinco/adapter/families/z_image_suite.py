"""Z-Image for the shared suite: 1 refining and 2 joint blocks, 2 heads of 16."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import ZImageTransformer2DModel
from diffusers.models.transformers.transformer_z_image import ZSingleStreamAttnProcessor
from torch import Tensor

from pinco.adapter import PincoAdapter
from pinco.adapter.families.z_image import rotary
from pinco.adapter.positions import Rotary
from tests.families.z_image import new_transformer
from tests.pinco.adapter.suite import AdapterSuite, Inputs

ZImage = ZImageTransformer2DModel
TEXT_WIDTH = 8
CAPTIONS = (40, 5)
"""Tokens of the captions in a batch, in turn; they are padded to 64 and 32."""


class ForeignProcessor(ZSingleStreamAttnProcessor):
    """A subclass of the stock processor is foreign too: what it adds would be lost."""


class ZImageSuite(AdapterSuite):
    vae_config: ClassVar = {"block_out_channels": (1, 1, 1, 1), "latent_channels": 16}
    depths: ClassVar = ({}, {"n_layers": 4})
    batched = ("x", "cap_feats", "t")
    full_precision = ("t",)
    timestep = "t"
    other_sizes: ClassVar = [
        {"n_layers": 3},
        {"n_refiner_layers": 2},
        {"n_heads": 1, "n_kv_heads": 1, "axes_dims": [8, 12, 12]},
        {"in_channels": 8},
        {"qk_norm": False},
    ]
    other_vae = (
        {"block_out_channels": (1,) * 4, "latent_channels": 4},
        "VAE makes 4 latent channels, the transformer takes 16",
    )

    def new_backbone(self, **changes: Any) -> ZImage:
        return new_transformer(**({"cap_feat_dim": TEXT_WIDTH} | changes)).requires_grad_(False)

    def new_inputs(self, backbone: ZImage, batch: int, grid: tuple[int, int]) -> Inputs:
        generator = torch.Generator().manual_seed(2)
        shape = (backbone.config.in_channels, 1, 2 * grid[0], 2 * grid[1])
        return dict(
            x=[torch.randn(shape, generator=generator) for _ in range(batch)],
            t=torch.rand(batch, generator=generator),
            cap_feats=[torch.randn(CAPTIONS[number % 2], TEXT_WIDTH, generator=generator) for number in range(batch)],
            return_dict=False,
        )

    def call(self, backbone: ZImage, inputs: Inputs, **extra: Any) -> Tensor:
        return torch.stack(backbone(**inputs, **extra)[0])

    def positions(self, adapter: PincoAdapter, grid: tuple[int, int]) -> Rotary:
        """Behind the first caption."""
        transformer = adapter._attachment.transformer  # type: ignore[union-attr]
        return rotary(transformer.rope_embedder(ids(grid, 64 + 1)))

    def replace_processor(self, backbone: ZImage) -> int:
        backbone.layers[0].attention.set_processor(ForeignProcessor())
        return 1

    def first_layer_input(self, backbone: ZImage, latents: Tensor) -> Tensor:
        block = backbone.noise_refiner[0]
        patches = torch.stack([backbone._patchify_image(one[:, None], 2, 1)[0] for one in latents])
        scale = block.adaLN_modulation(backbone.t_embedder(torch.tensor([1000.0])))[:, None].chunk(4, dim=-1)[0]
        modulated: Tensor = block.attention_norm1(backbone.all_x_embedder["2-1"](patches)) * (1 + scale)
        return modulated

    def own_keys_values(self, backbone: ZImage, states: Tensor) -> tuple[Tensor, Tensor]:
        attention = backbone.noise_refiner[0].attention
        keys = attention.norm_k(attention.to_k(states).unflatten(-1, (2, 16)))
        return keys, attention.to_v(states).unflatten(-1, (2, 16))


def ids(grid: tuple[int, int], start: int) -> Tensor:
    """Ids of an image whose tokens start there on the first axis."""
    made: Tensor = ZImageTransformer2DModel.create_coordinate_grid((1, *grid), start=(start, 0, 0)).flatten(0, 2)
    return made
