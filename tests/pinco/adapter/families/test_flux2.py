"""Flux 2: the shared promises, and what only Flux 2 promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from torch import Tensor

from pinco.adapter import PincoAdapter
from pinco.adapter.families.flux2 import FAMILY
from pinco.adapter.positions import Rotary
from pinco.adapter.tokens import pack
from tests.pinco.adapter.families.flux2_suite import TEXT_TOKENS, Flux2Suite
from tests.pinco.adapter.suite import SMALL, Inputs

SubjectInputs = tuple[Tensor, Tensor]


class TestFlux2(Flux2Suite):
    """The shared suite without embedded guidance, as klein has it, and Flux 2's own."""

    def test_the_double_blocks_come_first(self, backbone: Flux2Transformer2DModel) -> None:
        assert FAMILY.layer_groups(backbone) == {"double": range(2), "single": range(2, 4)}
        originals = backbone.attn_processors
        self.new_adapter(backbone, layers=[3, 0]).attach(backbone)
        entered = [name for name, processor in backbone.attn_processors.items() if processor is not originals[name]]
        assert entered == ["transformer_blocks.0.attn.processor", "single_transformer_blocks.1.attn.processor"]

    @torch.no_grad()
    def test_positions_are_those_of_the_pipeline(self, backbone: Flux2Transformer2DModel, inputs: Inputs) -> None:
        table = FAMILY.positions(backbone, SMALL, "cpu")
        assert isinstance(table, Rotary)
        for mine, wanted in zip((table.cos, table.sin), backbone.pos_embed(inputs["img_ids"][0]), strict=True):
            assert torch.equal(mine, wanted)

    @torch.no_grad()
    def test_a_single_blocks_keys_and_values_are_cut_out_of_its_fused_projection(
        self, backbone: Flux2Transformer2DModel, subject_inputs: SubjectInputs
    ) -> None:
        """As layer 0 in the suite: the start is the layer's own K and V of the embedded clean image."""
        latents, _ = subject_inputs
        adapter = PincoAdapter.for_backbone(backbone, self.vae_config, shape="none", prune=False)
        keys, values = adapter.layer(3)(adapter.encode(*subject_inputs).tokens)
        attention = backbone.single_transformer_blocks[1].attn
        states = self.modulated(backbone, 3, backbone.x_embedder(pack(latents, 2)))
        _, key, value, _ = attention.to_qkv_mlp_proj(states).split((32, 32, 32, 2 * attention.mlp_hidden_dim), dim=-1)
        torch.testing.assert_close(keys, attention.norm_k(key.unflatten(-1, (2, 16))), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(values, value.unflatten(-1, (2, 16)), atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("number", [1, 3], ids=["double", "single"])
    @torch.no_grad()
    def test_a_subject_that_weighs_nothing_leaves_the_original_processors_output(
        self, backbone: Flux2Transformer2DModel, inputs: Inputs, subject_inputs: SubjectInputs, number: int
    ) -> None:
        """Our projections and output, and not the original's, yet nothing to add to them: up to rounding the same."""
        bare = self.call(backbone, inputs)
        adapter = self.new_adapter(backbone, layers=[number]).attach(backbone)
        adapter.layer(number).gate.value.fill_(1e-9)
        out = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        torch.testing.assert_close(out, bare, atol=1e-6, rtol=0)

    @torch.no_grad()
    def test_fused_projections_of_the_backbone_are_used(
        self, backbone: Flux2Transformer2DModel, inputs: Inputs, subject_inputs: SubjectInputs
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        wanted = self.run(backbone, inputs, adapter, subject)
        for block in backbone.transformer_blocks:
            block.attn.fuse_projections()
            block.attn.to_q.weight.zero_()  # whoever still reads it is found out
        torch.testing.assert_close(self.run(backbone, inputs, adapter, subject), wanted, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("part", ["transformer_blocks", "single_transformer_blocks"])
    def test_an_attention_mask_is_refused(
        self, backbone: Flux2Transformer2DModel, subject_inputs: SubjectInputs, part: str
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        attention = getattr(backbone, part)[0].attn
        states = {"hidden_states": torch.zeros(2, 20, 32)}
        if part == "transformer_blocks":
            states["encoder_hidden_states"] = torch.zeros(2, TEXT_TOKENS, 32)
        with pytest.raises(ValueError, match="no attention_mask"):
            attention(**states, attention_mask=torch.ones(1, 1, 1, 20), subject=adapter.encode(*subject_inputs))

    @torch.no_grad()
    def test_a_call_with_reference_images_is_refused(
        self, backbone: Flux2Transformer2DModel, inputs: Inputs, subject_inputs: SubjectInputs
    ) -> None:
        """Their tokens stand behind the image's, where the subject would take their positions."""
        adapter = self.new_adapter(backbone).attach(backbone)
        tokens = torch.cat((inputs["hidden_states"], torch.zeros(2, 6, 32)), dim=1)
        ids = torch.cat((inputs["img_ids"], torch.full((2, 6, 4), 10)), dim=1)
        with pytest.raises(ValueError, match="encoded for 4 x 5 tokens, the latents have 26"):
            self.run(
                backbone,
                inputs | {"hidden_states": tokens, "img_ids": ids},
                adapter,
                adapter.encode(*subject_inputs),
            )


class TestGuidanceDistilledFlux2(Flux2Suite):
    """The shared suite on a backbone with an embedded guidance scale, like FLUX.2 dev."""

    def new_backbone(self, **changes: Any) -> Flux2Transformer2DModel:
        return super().new_backbone(**({"guidance_embeds": True} | changes))
