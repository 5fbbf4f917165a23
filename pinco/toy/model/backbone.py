"""The toy's backbone: diffusers' `FluxTransformer2DModel`, small, trained from scratch by flow matching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

from pinco.toy.model.text import WIDTH
from pinco.training.dataset import Batch, CachedDataset
from pinco.training.losses import Noised, add_noise, flow_matching_loss
from pinco.training.validation import validation_by_region

HEADS, HEAD_DIM, ROTARY_AXES = 6, 32, (8, 12, 12)
DOUBLE_BLOCKS, SINGLE_BLOCKS = 2, 5
SHIFT = 1.0
"""Timestep shift of the scheduler, and so of every validation."""


def new_transformer() -> FluxTransformer2DModel:
    """A fresh transformer: packed latents `[B, N, 64]` to velocities of the same shape."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=DOUBLE_BLOCKS,
        num_single_layers=SINGLE_BLOCKS,
        attention_head_dim=HEAD_DIM,
        num_attention_heads=HEADS,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=False,
        axes_dims_rope=ROTARY_AXES,
    )


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=SHIFT, use_dynamic_shifting=False)


def position_ids(grid: tuple[int, int]) -> torch.Tensor:
    """Rotary positions `[rows * columns, 3]` of the image tokens, as `FluxPipeline` makes them."""
    ids: torch.Tensor = FluxPipeline._prepare_latent_image_ids(1, *grid, torch.device("cpu"), torch.float32)
    return ids


def predict(
    transformer: FluxTransformer2DModel, noised: Noised, batch: Batch, extra: Mapping[str, Any] | None = None
) -> torch.Tensor:
    """The transformer's velocity `[B, N, D]` for a noised batch, called the way `FluxPipeline` calls it.

    Args:
        transformer: The backbone.
        noised: What it sees.
        batch: The texts, and the grid of the latents.
        extra: Further arguments, as `PincoAdapter.using` yields them.
    """
    device = noised.x_t.device
    text_ids = torch.zeros(batch.sequence.shape[1], 3, device=device)
    velocity: torch.Tensor = transformer(
        hidden_states=noised.x_t,
        timestep=noised.sigma,
        encoder_hidden_states=batch.sequence,
        pooled_projections=batch.pooled,
        img_ids=position_ids(batch.grid).to(device),
        txt_ids=text_ids,
        return_dict=False,
        **(extra or {}),
    )[0]
    return velocity


class BackboneTask:
    """Text to whole scene, product and place together (`pinco.training.loop.Task`)."""

    def __init__(self, transformer: FluxTransformer2DModel, train: CachedDataset, held_out: CachedDataset) -> None:
        self.transformer = transformer
        self._train = train
        self._held_out = held_out

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": list(self.transformer.named_parameters()), "lr": learning_rate}]

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        batch = self._train.draw(batch_size, generator).to(self.transformer.device)
        noised = add_noise(batch.latents, generator)
        return flow_matching_loss(predict(self.transformer, noised, batch), noised), {}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        return validation_by_region(
            lambda noised, batch: predict(self.transformer, noised, batch),
            self._held_out,
            shift=SHIFT,
            device=self.transformer.device,
        )
