"""Z-Image: the shared promises, and what only Z-Image promises."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from diffusers import ZImageTransformer2DModel
from diffusers.models.transformers.transformer_z_image import ZSingleStreamAttnProcessor
from torch import Tensor

from pinco.adapter import PincoAdapter
from pinco.adapter.families import UnknownFamilyError, family_of
from pinco.adapter.families.z_image import FAMILY, rotary
from pinco.adapter.positions import Rotary
from tests.families.z_image import new_transformer
from tests.pinco.adapter.suite import SMALL, AdapterSuite, Inputs

ZImage = ZImageTransformer2DModel
SubjectInputs = tuple[Tensor, Tensor]
CAPTIONS = (40, 5)
"""Tokens of the captions in a batch, in turn; they are padded to 64 and 32."""


class ForeignProcessor(ZSingleStreamAttnProcessor):
    """A subclass of the stock processor is foreign too: what it adds would be lost."""


class TestZImage(AdapterSuite):
    """The shared suite, and Z-Image's own."""

    vae_config: ClassVar = {"block_out_channels": (1, 1, 1, 1), "latent_channels": 16}
    batched = ("x", "cap_feats", "t")
    full_precision = ("t",)
    timestep = "t"
    offload = False  # the tokens that pad image and caption lie beside the blocks
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
        return new_transformer(**({"cap_feat_dim": 8} | changes)).requires_grad_(False)

    def new_inputs(self, backbone: ZImage, batch: int, grid: tuple[int, int]) -> Inputs:
        generator = torch.Generator().manual_seed(2)
        shape = (backbone.config.in_channels, 1, 2 * grid[0], 2 * grid[1])
        return dict(
            x=[torch.randn(shape, generator=generator) for _ in range(batch)],
            t=torch.rand(batch, generator=generator),
            cap_feats=[torch.randn(CAPTIONS[number % 2], 8, generator=generator) for number in range(batch)],
            return_dict=False,
        )

    def call(self, backbone: ZImage, inputs: Inputs, **extra: Any) -> Tensor:
        return torch.stack(backbone(**inputs, **extra)[0])

    def positions(self, adapter: PincoAdapter, grid: tuple[int, int]) -> Rotary:
        """Behind the first caption."""
        transformer = adapter._attachment.transformer  # type: ignore[union-attr]
        return rotary(transformer.rope_embedder(_ids(grid, 64 + 1)))

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

    def test_the_refining_blocks_come_first_and_the_captions_are_left_alone(self, backbone: ZImage) -> None:
        assert FAMILY.layer_groups(backbone) == {"refiner": range(1), "joint": range(1, 3)}
        attentions = FAMILY.attentions(backbone)
        assert attentions == [backbone.noise_refiner[0].attention, *(block.attention for block in backbone.layers)]

    @torch.no_grad()
    def test_each_sample_has_the_positions_behind_its_own_caption(
        self, backbone: ZImage, inputs: Inputs, subject_inputs: SubjectInputs, seen_keys: dict[int, Tensor]
    ) -> None:
        adapter = self.new_adapter(backbone, prune=False).attach(backbone)
        subject = adapter.encode(*subject_inputs, cache=True)
        assert not subject.anchored
        self.run(backbone, inputs, adapter, subject)
        assert subject.cache is not None
        for number in adapter.settings.layers:
            keys, _ = subject.cache[number]  # type: ignore[misc]
            for sample, padded in enumerate((64, 32)):
                table = rotary(backbone.rope_embedder(_ids(SMALL, padded + 1)))
                wanted = table.on_keys(keys[sample : sample + 1], None)[0]
                torch.testing.assert_close(seen_keys[number][sample], wanted)

    @torch.no_grad()
    def test_a_subject_that_weighs_nothing_leaves_the_original_processors_output(
        self, backbone: ZImage, inputs: Inputs, subject_inputs: SubjectInputs
    ) -> None:
        """Our projections, mask and output, and not the original's: up to rounding the same."""
        bare = self.call(backbone, inputs)
        adapter = self.new_adapter(backbone).attach(backbone)
        for number in adapter.settings.layers:
            adapter.layer(number).gate.value.fill_(1e-9)
        out = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        torch.testing.assert_close(out, bare, atol=1e-5, rtol=0)

    def test_a_mask_of_queries_and_keys_is_refused(self, backbone: ZImage, subject_inputs: SubjectInputs) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        attention = backbone.layers[0].attention
        with pytest.raises(ValueError, match=r"mask of keys \[B, S\], not one of 4 axes"):
            attention.processor(
                attention, torch.zeros(2, 20, 32), None, torch.ones(2, 1, 20, 20), None, adapter.encode(*subject_inputs)
            )

    @pytest.mark.parametrize("kind", ["sizes", "frames", "images"])
    def test_a_batch_that_is_not_one_image_each_is_refused(
        self, backbone: ZImage, inputs: Inputs, subject_inputs: SubjectInputs, kind: str
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        first = inputs["x"][0]
        x = {
            "sizes": [first, first[..., :-2]],
            "frames": [torch.cat((first, first), dim=1)] * 2,
            "images": [[first, first], [first, first]],
        }[kind]
        with pytest.raises(ValueError, match="one image of one size in every sample"):
            self.run(backbone, inputs | {"x": x}, adapter, adapter.encode(*subject_inputs))

    def test_omni_is_of_no_family(self) -> None:
        with pytest.raises(UnknownFamilyError):
            family_of(new_transformer(siglip_feat_dim=8))


def _ids(grid: tuple[int, int], start: int) -> Tensor:
    ids: Tensor = ZImageTransformer2DModel.create_coordinate_grid((1, *grid), start=(start, 0, 0)).flatten(0, 2)
    return ids
