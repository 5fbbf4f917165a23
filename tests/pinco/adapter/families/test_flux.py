"""Flux: the shared promises, and what only Flux promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from pinco.adapter.families.flux import FAMILY
from pinco.adapter.positions import Rotary
from tests.pinco.adapter.families.flux_suite import FluxSuite
from tests.pinco.adapter.suite import SMALL, Inputs

Flux = FluxTransformer2DModel
SubjectInputs = tuple[Tensor, Tensor]


class TestFlux(FluxSuite):
    """The shared suite, and Flux's own."""

    def test_the_double_blocks_come_first(self, backbone: Flux) -> None:
        assert FAMILY.layer_groups(backbone) == {"double": range(2), "single": range(2, 4)}
        originals = backbone.attn_processors
        self.new_adapter(backbone, layers=[3, 0]).attach(backbone)
        entered = [name for name, processor in backbone.attn_processors.items() if processor is not originals[name]]
        assert entered == ["transformer_blocks.0.attn.processor", "single_transformer_blocks.1.attn.processor"]

    @torch.no_grad()
    def test_the_subject_travels_in_joint_attention_kwargs(
        self, backbone: Flux, inputs: Inputs, subject_inputs: SubjectInputs
    ) -> None:
        """For those who call a diffusers pipeline by hand."""
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        with adapter.using(subject) as kwargs:
            assert kwargs == {"joint_attention_kwargs": {"subject": subject}}
        by_hand = backbone(**inputs, joint_attention_kwargs={"subject": subject})[0]
        assert torch.equal(by_hand, self.run(backbone, inputs, adapter, subject))

    @torch.no_grad()
    def test_uncached_keys_follow_the_ids_of_the_call(
        self, backbone: Flux, inputs: Inputs, subject_inputs: SubjectInputs, seen_keys: dict[int, Tensor]
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        moved = inputs["img_ids"] + torch.tensor([0.0, 5.0, 2.0])
        self.run(backbone, inputs | {"img_ids": moved}, adapter, adapter.encode(*subject_inputs))
        subject = adapter.encode(*subject_inputs)
        keys, _ = adapter.layer(0)(subject.tokens)
        wanted = Rotary(*backbone.pos_embed(moved)).on_keys(keys, subject.index)
        torch.testing.assert_close(seen_keys[0], wanted)

    @torch.no_grad()
    def test_fused_projections_of_the_backbone_are_used(
        self, backbone: Flux, inputs: Inputs, subject_inputs: SubjectInputs
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        wanted = self.run(backbone, inputs, adapter, subject)
        for block in backbone.transformer_blocks:
            block.attn.fuse_projections()
            block.attn.to_q.weight.zero_()  # whoever still reads it is found out
        torch.testing.assert_close(self.run(backbone, inputs, adapter, subject), wanted, atol=1e-5, rtol=0)

    def test_the_attention_backend_reaches_the_original_processor(self, backbone: Flux) -> None:
        original = backbone.transformer_blocks[0].attn.processor
        adapter = self.new_adapter(backbone).attach(backbone)
        backbone.set_attention_backend("native")
        adapter.detach()
        assert original._attention_backend is not None

    def test_an_attention_mask_is_refused(self, backbone: Flux, subject_inputs: SubjectInputs) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        attention = backbone.single_transformer_blocks[0].attn
        with pytest.raises(ValueError, match="no attention_mask"):
            attention(
                torch.zeros(2, 20, 32), attention_mask=torch.ones(1, 1, 1, 20), subject=adapter.encode(*subject_inputs)
            )

    @torch.no_grad()
    def test_positions_are_those_of_the_pipeline(self, backbone: Flux, inputs: Inputs) -> None:
        table = FAMILY.positions(backbone, SMALL, "cpu")
        assert isinstance(table, Rotary)
        for mine, wanted in zip((table.cos, table.sin), backbone.pos_embed(inputs["img_ids"]), strict=True):
            assert torch.equal(mine, wanted)

    def test_load_ip_adapter_is_refused(self, backbone: Flux) -> None:
        self.new_adapter(backbone).attach(backbone)
        weights: dict[str, dict[str, Tensor]] = {"image_proj": {"proj.weight": torch.zeros(32, 8)}, "ip_adapter": {}}
        for layer in range(2):
            for name in ("to_k_ip", "to_v_ip"):
                weights["ip_adapter"][f"{layer}.{name}.weight"] = torch.zeros(32, 8)
                weights["ip_adapter"][f"{layer}.{name}.bias"] = torch.zeros(32)
        with pytest.raises(RuntimeError, match=r"adapter\.detach\(\) before load_ip_adapter"):
            backbone._load_ip_adapter_weights(weights, low_cpu_mem_usage=False)


class TestGuidanceDistilledFlux(FluxSuite):
    """The shared suite on a backbone with an embedded guidance scale, like FLUX.1 dev."""

    def new_backbone(self, **changes: Any) -> Flux:
        return super().new_backbone(**({"guidance_embeds": True} | changes))
