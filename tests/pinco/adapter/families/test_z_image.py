"""Z-Image: the shared promises, and what only Z-Image promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pinco.adapter.families import UnknownFamilyError, family_of
from pinco.adapter.families.z_image import FAMILY, rotary
from tests.families.z_image import new_transformer
from tests.pinco.adapter.families.z_image_suite import ZImage, ZImageSuite, ids
from tests.pinco.adapter.suite import SMALL, Inputs

SubjectInputs = tuple[Tensor, Tensor]


class TestZImage(ZImageSuite):
    """The shared suite, and Z-Image's own."""

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
                table = rotary(backbone.rope_embedder(ids(SMALL, padded + 1)))
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
