from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from pinco.adapter import PincoAdapter
from pinco.adapter.extractor import ShapeConv
from pinco.adapter.tokens import pack

Inputs = tuple[Tensor, Tensor]


def test_one_token_per_latent_token(make_adapter: Callable[..., PincoAdapter], subject_inputs: Inputs) -> None:
    tokens, spread = make_adapter().extractor(*subject_inputs)
    assert tokens.shape == (2, 20, 32) and spread.shape == (2, 20, 1)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 20), atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_the_convolutions_end_on_the_token_grid(stride: int) -> None:
    features = ShapeConv(8, stride)(torch.rand(1, 3, 2 * stride, 3 * stride))
    assert features.shape == (1, 6, 8)


def test_features_stay_where_their_pixels_are() -> None:
    conv = ShapeConv(8, 16)
    maps = torch.zeros(1, 3, 64, 64)
    before = conv(maps)
    maps[0, :, 36:44, 20:28] = 1  # within row 2, column 1
    changed = (conv(maps) - before).abs().sum(-1)[0]
    assert int(changed.argmax()) == 2 * 4 + 1


def test_from_the_backbone_the_semantic_branch_passes_through(
    make_adapter: Callable[..., PincoAdapter], transformer: FluxTransformer2DModel, subject_inputs: Inputs
) -> None:
    """F is the layer norm of the backbone's own patch embedding, exactly."""
    tokens, spread = make_adapter(shape="none").extractor(*subject_inputs)
    embedded = transformer.x_embedder(pack(subject_inputs[0], 2))
    torch.testing.assert_close(spread, embedded.std(-1, keepdim=True, correction=0), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(tokens, torch.nn.functional.layer_norm(embedded, (32,), eps=1e-6), atol=1e-5, rtol=1e-4)


def test_the_shape_branch_starts_small_but_not_at_zero(
    make_adapter: Callable[..., PincoAdapter], subject_inputs: Inputs
) -> None:
    with_shape = make_adapter().extractor(*subject_inputs)[0]
    without = make_adapter(shape="none").extractor(*subject_inputs)[0]
    share = float((with_shape - without).detach().norm() / without.detach().norm())
    assert 0.01 < share < 0.5


def test_random_start_leaves_the_backbone_out(
    make_adapter: Callable[..., PincoAdapter], transformer: FluxTransformer2DModel, subject_inputs: Inputs
) -> None:
    tokens = make_adapter(shape="none", init_semantic="random").extractor(*subject_inputs)[0].detach()
    embedded = torch.nn.functional.layer_norm(transformer.x_embedder(pack(subject_inputs[0], 2)), (32,))
    assert float((tokens - embedded).norm() / embedded.norm()) > 0.5


@pytest.mark.parametrize(
    ("options", "sees_latents", "seen_maps"),
    [
        ({}, True, (True, True, True)),
        ({"use_mask": False}, True, (False, True, True)),
        ({"use_depth": False}, True, (True, False, True)),
        ({"use_sobel": False}, True, (True, True, False)),
        ({"shape": "none"}, True, (False, False, False)),
        ({"semantic": "none"}, False, (True, True, True)),
    ],
)
def test_ablations_cut_exactly_what_they_name(
    make_adapter: Callable[..., PincoAdapter],
    subject_inputs: Inputs,
    options: dict[str, Any],
    sees_latents: bool,
    seen_maps: tuple[bool, bool, bool],
) -> None:
    extractor = make_adapter(**options).extractor
    latents, maps = subject_inputs
    before, _ = extractor(latents, maps)
    assert torch.equal(extractor(latents + 1, maps)[0], before) is not sees_latents
    for channel, seen in enumerate(seen_maps):
        changed = maps.clone()
        changed[:, channel] = 1 - changed[:, channel]
        assert torch.equal(extractor(latents, changed)[0], before) is not seen


def test_the_vae_for_both_branches(make_adapter: Callable[..., PincoAdapter], subject_inputs: Inputs) -> None:
    extractor = make_adapter(shape="vae").extractor
    latents, maps = subject_inputs
    shape_latents = torch.randn_like(latents)
    tokens, _ = extractor(latents, maps, shape_latents)
    assert not torch.equal(extractor(latents, maps, shape_latents + torch.randn_like(latents))[0], tokens)
    with pytest.raises(ValueError, match="pass shape_latents"):
        extractor(latents, maps)


def test_the_shape_image_shows_the_chosen_maps(make_adapter: Callable[..., PincoAdapter]) -> None:
    image = make_adapter(shape="vae", use_depth=False).extractor.shape_image(torch.ones(1, 3, 2, 2))
    assert image[0, :, 0, 0].tolist() == [1.0, -1.0, 1.0]
