"""Hunyuan-DiT: the shared promises, and what only this family promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import HunyuanDiT2DModel
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor

from pinco.adapter.families.hunyuan import FAMILY
from pinco.adapter.positions import Rotary
from tests.pinco.adapter.families.hunyuan_suite import HunyuanSuite, pipeline_table
from tests.pinco.adapter.suite import SMALL, Inputs

SubjectInputs = tuple[Tensor, Tensor]


class TestHunyuan(HunyuanSuite):
    """The shared suite on the layout of 1.2, and what is special."""

    def test_no_argument_carries_the_subject_and_keys_have_a_layer_norm(self, backbone: HunyuanDiT2DModel) -> None:
        assert FAMILY.attention_argument is None
        assert FAMILY.dims(backbone, None).key_norm == "layer"
        adapter = self.new_adapter(backbone)
        own = backbone.blocks[2].attn1.norm_k
        assert torch.equal(adapter.layer(2).norm_k_sub.weight, own.weight)
        assert torch.equal(adapter.layer(2).norm_k_sub.bias, own.bias)

    def test_the_attention_to_the_text_is_left_alone(self, backbone: HunyuanDiT2DModel) -> None:
        originals = [block.attn2.processor for block in backbone.blocks]
        self.new_adapter(backbone).attach(backbone)
        assert all(block.attn2.processor is own for block, own in zip(backbone.blocks, originals, strict=True))

    @pytest.mark.parametrize("grid", [(8, 8), SMALL, (7, 3), (3, 16)])
    def test_positions_are_those_of_the_pipeline(self, backbone: HunyuanDiT2DModel, grid: tuple[int, int]) -> None:
        positions = FAMILY.positions(backbone, grid, "cpu")
        assert isinstance(positions, Rotary)
        for mine, wanted in zip((positions.cos, positions.sin), pipeline_table(backbone, grid), strict=True):
            assert torch.equal(mine, wanted)

    @torch.no_grad()
    def test_the_subject_is_attended_apart_with_its_keys_turned(
        self, backbone: HunyuanDiT2DModel, subject_inputs: SubjectInputs
    ) -> None:
        """One block by hand: `a A(Q, K, V) + b A(Q, K_sub, V_sub)`, with the image's rotary table on `K_sub`."""
        adapter = self.new_adapter(backbone, prune=False, layers=[1]).attach(backbone)
        attention, table = backbone.blocks[1].attn1, pipeline_table(backbone, SMALL)
        subject, states = adapter.encode(*subject_inputs), torch.randn(2, 20, 32)
        out = attention.processor(attention, states, image_rotary_emb=table, subject=subject)

        q, k, v = (
            project(states).unflatten(-1, (2, 16)).transpose(1, 2)
            for project in (attention.to_q, attention.to_k, attention.to_v)
        )
        ks, vs = (x.transpose(1, 2) for x in adapter.layer(1)(subject.tokens))
        q, k, ks = (apply_rotary_emb(x, table) for x in (attention.norm_q(q), attention.norm_k(k), ks))
        a, b = adapter.weights(adapter.layer(1))
        z = a * F.scaled_dot_product_attention(q, k, v) + b * F.scaled_dot_product_attention(q, ks, vs)
        wanted = attention.to_out[0](z.transpose(1, 2).flatten(2))
        torch.testing.assert_close(out, wanted, atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_a_subject_reaches_the_blocks_with_skip_connections(
        self, backbone: HunyuanDiT2DModel, inputs: Inputs, subject_inputs: SubjectInputs
    ) -> None:
        assert [block.skip_linear is not None for block in backbone.blocks] == [False, False, False, True]
        bare = self.call(backbone, inputs)
        adapter = self.new_adapter(backbone, layers=[3]).attach(backbone)
        out = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        assert float((out - bare).norm() / bare.norm()) > 1e-3

    def test_text_and_masks_are_refused_beside_a_subject(
        self, backbone: HunyuanDiT2DModel, subject_inputs: SubjectInputs
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        attention, subject = backbone.blocks[0].attn1, adapter.encode(*subject_inputs)
        for extra in ({"encoder_hidden_states": torch.zeros(2, 3, 32)}, {"attention_mask": torch.ones(2, 1, 1, 20)}):
            with pytest.raises(ValueError, match="takes no text and no attention_mask"):
                attention.processor(attention, torch.zeros(2, 20, 32), **extra, subject=subject)


class TestHunyuanWithStyle(HunyuanSuite):
    """The shared suite on the layout of 1.0 and 1.1, whose timestep embedding takes sizes and a style."""

    def new_backbone(self, **changes: Any) -> HunyuanDiT2DModel:
        return super().new_backbone(**({"use_style_cond_and_image_meta_size": True} | changes))
