"""Small random Flux backbones and subjects for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from pinco.adapter import PincoAdapter

VAE_CONFIG = {"block_out_channels": (1, 1, 1, 1), "latent_channels": 16}
GRID = (4, 5)
TEXT_TOKENS = 3


def make_transformer(**changes: Any) -> FluxTransformer2DModel:
    """A frozen Flux of 2 double and 2 single blocks, 2 heads of 16; random, also where training starts at zero."""
    torch.manual_seed(1)
    config: dict[str, Any] = dict(
        patch_size=1,
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        guidance_embeds=False,
        axes_dims_rope=(4, 6, 6),
    )
    model = FluxTransformer2DModel(**(config | changes)).requires_grad_(False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".norm_k" in name or ".norm_q" in name:
                parameter.uniform_(0.5, 1.5)
    return model


def make_inputs(model: FluxTransformer2DModel, batch: int = 2) -> dict[str, Any]:
    """Arguments of the transformer's forward for a grid of 4 x 5 tokens."""
    generator = torch.Generator().manual_seed(2)
    rows, columns = GRID
    inputs: dict[str, Any] = dict(
        hidden_states=torch.randn(batch, rows * columns, 64, generator=generator),
        encoder_hidden_states=torch.randn(batch, TEXT_TOKENS, 8, generator=generator),
        pooled_projections=torch.randn(batch, 8, generator=generator),
        timestep=torch.rand(batch, generator=generator),
        img_ids=FluxPipeline._prepare_latent_image_ids(1, rows, columns, "cpu", torch.float32),
        txt_ids=torch.zeros(TEXT_TOKENS, 3),
        return_dict=False,
    )
    if model.config.guidance_embeds:
        inputs["guidance"] = torch.full((batch,), 3.5)
    return inputs


def make_subject_inputs(batch: int = 2) -> tuple[Tensor, Tensor]:
    """Latents and maps whose products cover different numbers of tokens: 4, then 6."""
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(batch, 16, 8, 10, generator=generator)
    maps = torch.zeros(batch, 3, 64, 80)
    for sample in range(batch):
        right = 48 if sample == 0 else 64
        maps[sample, :, 16:48, 16:right] = torch.rand(3, 32, right - 16, generator=generator)
        maps[sample, 0, 16:48, 16:right] = 1
    return latents, maps


def open_gates(adapter: PincoAdapter) -> PincoAdapter:
    """Gates of both signs, as after training."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for number in adapter.settings.layers:
            gate = adapter.layer(number).gate.value
            gate.copy_(torch.rand(gate.shape, generator=generator) * 2 - 0.5)
    return adapter


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    return make_transformer()


@pytest.fixture
def make_adapter(transformer: FluxTransformer2DModel) -> Callable[..., PincoAdapter]:
    """Adapters for `transformer` with open gates; not attached."""

    def make(**options: Any) -> PincoAdapter:
        torch.manual_seed(5)
        options = {"shape_channels": 8, "mask_dilation": 0} | options
        return open_gates(PincoAdapter.for_backbone(transformer, VAE_CONFIG, **options))

    return make


@pytest.fixture
def flux() -> Callable[..., FluxTransformer2DModel]:
    """Makes further backbones."""
    return make_transformer


@pytest.fixture
def vae_config() -> dict[str, Any]:
    return VAE_CONFIG


@pytest.fixture
def inputs(transformer: FluxTransformer2DModel) -> dict[str, Any]:
    return make_inputs(transformer)


@pytest.fixture
def inputs_for() -> Callable[..., dict[str, Any]]:
    """Forward arguments for another backbone or batch."""
    return make_inputs


@pytest.fixture
def subject_inputs() -> tuple[Tensor, Tensor]:
    return make_subject_inputs()


@pytest.fixture
def subject_inputs_for() -> Callable[[int], tuple[Tensor, Tensor]]:
    """Latents and maps for another batch."""
    return make_subject_inputs
