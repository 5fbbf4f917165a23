"""Stable Diffusion 3: the shared promises on each released layout, and what only this family promises."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel
from torch import Tensor

from pinco.adapter import PincoAdapter
from pinco.adapter.families.sd3 import FAMILY
from pinco.adapter.positions import Additive
from tests.pinco.adapter.families.sd3_suite import TEXT_TOKENS, SD3Suite
from tests.pinco.adapter.suite import SMALL, Inputs

SubjectInputs = tuple[Tensor, Tensor]


class TestSD3Medium(SD3Suite):
    """The shared suite without a key norm."""

    layout = "sd3-medium"

    def test_keys_are_not_normalised(self, backbone: SD3Transformer2DModel) -> None:
        assert FAMILY.dims(backbone, None).key_norm == "none"
        assert FAMILY.layer_groups(backbone) == {"joint": range(2)}

    @torch.no_grad()
    def test_positions_are_those_that_the_backbone_adds(self, backbone: SD3Transformer2DModel, inputs: Inputs) -> None:
        """Also where the image is no square, and smaller than the table."""
        positions = FAMILY.positions(backbone, SMALL, "cpu")
        assert isinstance(positions, Additive)
        latents = inputs["hidden_states"]
        embedded = backbone.pos_embed.proj(latents).flatten(2).transpose(1, 2)
        assert torch.equal(embedded + positions.table, backbone.pos_embed(latents))

    @pytest.mark.parametrize("size", [0.1, 10.0])
    @torch.no_grad()
    def test_the_first_layers_keys_start_with_positions_as_heavy_as_the_backbones(
        self, backbone: SD3Transformer2DModel, subject_inputs: SubjectInputs, size: float
    ) -> None:
        """The table is added before the norm there, so that small patches are mostly position and large ones hardly."""
        backbone.pos_embed.proj.weight *= size
        adapter = PincoAdapter.for_backbone(backbone, self.vae_config, shape="none", prune=False)
        for number in adapter.settings.layers:
            adapter.layer(number).gate.value.fill_(1.0)
        subject = adapter.attach(backbone).encode(*subject_inputs, cache=True)
        assert subject.cache is not None and subject.cache[0] is not None and subject.anchored
        conditioning = backbone.time_text_embed(torch.zeros(1), torch.zeros(1, backbone.config.pooled_projection_dim))
        seen = backbone.transformer_blocks[0].norm1(backbone.pos_embed(subject_inputs[0]), emb=conditioning)[0]
        own_keys, _ = self.own_keys_values(backbone, seen)
        torch.testing.assert_close(subject.cache[0][0], own_keys, atol=1e-3, rtol=1e-3)

    def test_an_image_beyond_the_table_is_refused(self, backbone: SD3Transformer2DModel) -> None:
        with pytest.raises(ValueError, match="pos_embed_max_size"):
            FAMILY.positions(backbone, (25, 4), "cpu")

    @torch.no_grad()
    def test_the_last_block_returns_its_text_unprojected(
        self, backbone: SD3Transformer2DModel, subject_inputs: SubjectInputs
    ) -> None:
        """`context_pre_only`: a pair without `to_add_out`. By hand: image first, text attends to the subject too."""
        adapter = self.new_adapter(backbone, prune=False, layers=[1]).attach(backbone)
        attention, subject = backbone.transformer_blocks[1].attn, adapter.encode(*subject_inputs)
        assert attention.context_pre_only and getattr(attention, "to_add_out", None) is None
        image, text = torch.randn(2, 20, 32), torch.randn(2, TEXT_TOKENS, 32)
        outputs = attention(hidden_states=image, encoder_hidden_states=text, subject=subject)

        q, k, v = (
            torch.cat((own(image), added(text)), dim=1).unflatten(-1, (2, 16)).transpose(1, 2)
            for own, added in zip(
                (attention.to_q, attention.to_k, attention.to_v),
                (attention.add_q_proj, attention.add_k_proj, attention.add_v_proj),
                strict=True,
            )
        )
        a, b = adapter.weights(adapter.layer(1))
        assert subject.spread is not None
        table = backbone.pos_embed.cropped_pos_embed(8, 10)
        placed = F.layer_norm(subject.tokens + table / subject.spread, (32,), eps=1e-6)
        ks, vs = (x.transpose(1, 2) for x in adapter.layer(1)(subject.tokens, placed))
        joint = torch.cat((k, ks), dim=2), torch.cat((v, vs), dim=2)
        z = a * F.scaled_dot_product_attention(q, k, v) + b * F.scaled_dot_product_attention(q, *joint)
        z = z.transpose(1, 2).flatten(2)
        torch.testing.assert_close(outputs[0], attention.to_out[0](z[:, :20]), atol=1e-5, rtol=0)
        torch.testing.assert_close(outputs[1], z[:, 20:], atol=1e-5, rtol=0)

    def test_an_attention_mask_is_refused(self, backbone: SD3Transformer2DModel, subject_inputs: SubjectInputs) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        attention, subject = backbone.transformer_blocks[0].attn, adapter.encode(*subject_inputs)
        image, text, mask = torch.zeros(2, 20, 32), torch.zeros(2, 3, 32), torch.ones(2, 1, 1, 23)
        with pytest.raises(ValueError, match="no attention_mask"):
            attention(hidden_states=image, encoder_hidden_states=text, attention_mask=mask, subject=subject)

    def test_fused_projections_are_refused_before_and_noticed_after(
        self, backbone: SD3Transformer2DModel, inputs: Inputs, subject_inputs: SubjectInputs
    ) -> None:
        """`fuse_qkv_projections` puts processors of another class in place."""
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        backbone.fuse_qkv_projections()
        with pytest.raises(RuntimeError, match=r"layer\(s\) \[0, 1\] were replaced"):
            self.run(backbone, inputs, adapter, subject)
        other = self.new_backbone()
        other.fuse_qkv_projections()
        with pytest.raises(ValueError, match="foreign attention processor"):
            self.new_adapter(other).attach(other)


class TestSD35Large(SD3Suite):
    """The shared suite with a key norm."""

    layout = "sd3.5-large"

    def test_keys_are_normalised(self, backbone: SD3Transformer2DModel) -> None:
        assert FAMILY.dims(backbone, None).key_norm == "rms"

    @torch.no_grad()
    def test_the_subject_travels_in_joint_attention_kwargs(
        self, backbone: SD3Transformer2DModel, inputs: Inputs, subject_inputs: SubjectInputs
    ) -> None:
        """For those who call a diffusers pipeline by hand."""
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        by_hand = backbone(**inputs, joint_attention_kwargs={"subject": subject})[0]
        assert torch.equal(by_hand, self.run(backbone, inputs, adapter, subject))


class TestSD35Medium(SD3Suite):
    """The shared suite with second attentions in the first block."""

    layout = "sd3.5-medium"

    def test_second_attentions_are_layers_behind_the_joint_ones(self, backbone: SD3Transformer2DModel) -> None:
        assert FAMILY.layer_groups(backbone) == {"joint": range(2), "image": range(2, 3)}
        first = backbone.transformer_blocks[0]
        assert first.attn.processor is first.attn2.processor  # one object for both
        adapter = self.new_adapter(backbone).attach(backbone)
        assert first.attn.processor is not first.attn2.processor
        adapter.detach()
        assert first.attn.processor is first.attn2.processor

    @torch.no_grad()
    def test_the_second_attention_sees_the_subject_too(
        self, backbone: SD3Transformer2DModel, inputs: Inputs, subject_inputs: SubjectInputs
    ) -> None:
        bare = self.call(backbone, inputs)
        outputs = []
        for layers in ("joint", "image"):
            adapter = self.new_adapter(backbone, layers=layers).attach(backbone)
            outputs.append(self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs)))
            adapter.detach()
        assert all(float((out - bare).norm() / bare.norm()) > 1e-3 for out in outputs)
        assert not torch.allclose(*outputs, atol=1e-3)

    @torch.no_grad()
    def test_the_second_attention_starts_as_the_backbone_sees_a_clean_image(
        self, backbone: SD3Transformer2DModel, subject_inputs: SubjectInputs
    ) -> None:
        """Its modulations are others than the joint attention's, in the same nine."""
        adapter = self.new_adapter(backbone, shape="none", prune=False)
        keys, values = adapter.layer(2)(adapter.encode(*subject_inputs).tokens)
        block = backbone.transformer_blocks[0]
        conditioning = backbone.time_text_embed(torch.zeros(1), torch.zeros(1, backbone.config.pooled_projection_dim))
        embedded = backbone.pos_embed.proj(subject_inputs[0]).flatten(2).transpose(1, 2)
        states = block.norm1(embedded, emb=conditioning)[5]
        wanted = block.attn2.norm_k(block.attn2.to_k(states).unflatten(-1, (2, 16)))
        torch.testing.assert_close(keys, wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(values, block.attn2.to_v(states).unflatten(-1, (2, 16)), atol=1e-4, rtol=1e-4)
