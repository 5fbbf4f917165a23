"""The odd family keeps every promise of the shared suite, without a line of shared code that knows it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.pinco.adapter.odd_family import FAMILY, OddAttnProcessor, OddTransformer
from tests.pinco.adapter.suite import SMALL, AdapterSuite, Inputs

TEXT_TOKENS = 3


class ForeignProcessor(OddAttnProcessor):
    pass


class OddSuite(AdapterSuite):
    vae_config: ClassVar = {"block_out_channels": (1, 1), "latent_channels": 4}
    repeated = None
    batched = ("hidden_states", "timestep", "encoder_hidden_states", "text_mask")
    full_precision = ("timestep",)
    other_sizes: ClassVar = [
        {"depth": 4},
        {"heads": 1},
        {"width": 64},
        {"channels": 8},
        {"patch_size": 2},
    ]
    other_vae = ({"block_out_channels": (1, 1), "latent_channels": 16}, "VAE makes 16 latent channels")

    def new_backbone(self, **changes: Any) -> OddTransformer:
        torch.manual_seed(1)
        model = OddTransformer(**changes).requires_grad_(False)
        for module in model.modules():  # random where training starts at one and zero
            if isinstance(module, nn.LayerNorm):
                module.weight.uniform_(0.8, 1.2)
                module.bias.uniform_(-0.1, 0.1)
        return model

    def new_inputs(self, backbone: OddTransformer, batch: int, grid: tuple[int, int]) -> Inputs:
        generator = torch.Generator().manual_seed(2)
        size = [side * backbone.config.patch_size for side in grid]
        mask = torch.ones(batch, TEXT_TOKENS, dtype=torch.bool)
        mask[0, -1] = False
        return dict(
            hidden_states=torch.randn(batch, backbone.config.channels, *size, generator=generator),
            timestep=torch.rand(batch, generator=generator),
            encoder_hidden_states=torch.randn(batch, TEXT_TOKENS, 8, generator=generator),
            text_mask=mask,
            return_dict=False,
        )

    def replace_processor(self, backbone: OddTransformer) -> int:
        backbone.blocks[1].attn.set_processor(ForeignProcessor())
        return 1

    def first_layer_input(self, backbone: OddTransformer, latents: Tensor) -> Tensor:
        block = backbone.blocks[0]
        normed = block.norm1(backbone.patch(latents).flatten(2).transpose(1, 2))
        shifted: Tensor = normed + block.shift(backbone.conditioning(torch.zeros(1)))
        return shifted

    def own_keys_values(self, backbone: OddTransformer, states: Tensor) -> tuple[Tensor, Tensor]:
        _, keys, values = backbone.blocks[0].attn.heads_of(states)
        return keys, values


class TestOddFamily(OddSuite):
    """The shared suite, and what is odd."""

    def test_no_argument_carries_the_subject(self) -> None:
        assert FAMILY.attention_argument is None

    @torch.no_grad()
    def test_masked_text_is_not_attended_beside_a_subject(
        self, backbone: OddTransformer, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        wanted = self.run(backbone, inputs, adapter, subject)
        text = inputs["encoder_hidden_states"].clone()
        text[0, -1] += 100
        changed = self.run(backbone, inputs | {"encoder_hidden_states": text}, adapter, subject)
        torch.testing.assert_close(changed, wanted, atol=1e-6, rtol=0)

    @torch.no_grad()
    def test_the_subject_is_attended_apart_from_the_image(
        self, backbone: OddTransformer, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        """One block by hand: `a A(Q, K, V) + b A(Q, K_sub, V_sub)`, the keys from tokens with positions added."""
        adapter = self.new_adapter(backbone, prune=False, layers=[0]).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        states = torch.randn(2, 23, 32, generator=torch.Generator().manual_seed(6))
        attention, layer = backbone.blocks[0].attn, adapter.layer(0)
        q, k, v = (x.transpose(1, 2) for x in attention.heads_of(states))
        assert subject.spread is not None
        table = backbone.table[: SMALL[0], : SMALL[1]].flatten(0, 1)
        placed = F.layer_norm(subject.tokens + table / subject.spread, (32,), eps=1e-6)
        keys, values = layer(subject.tokens, placed)
        own = F.scaled_dot_product_attention(q, k, v)
        other = F.scaled_dot_product_attention(q, keys.transpose(1, 2), values.transpose(1, 2))
        gate = torch.tanh(layer.gate.value).view(1, -1, 1, 1)
        wanted = attention.to_out((own + gate * other).transpose(1, 2).flatten(2))
        torch.testing.assert_close(attention.processor(attention, states, subject=subject), wanted, atol=1e-5, rtol=0)


class TestOddFamilyWithPatchesOfOne(OddSuite):
    """Every latent pixel a token."""

    def new_backbone(self, **changes: Any) -> OddTransformer:
        return super().new_backbone(**({"patch_size": 1} | changes))
