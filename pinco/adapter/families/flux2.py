"""Flux 2: subject-aware attention in the double blocks and in the parallel single blocks.

The form is Flux's, `Z = a * MMAttn(Q, K, V) + b * MMAttn(Q, [K, K_sub], [V, V_sub])` over `[text, image]` (Pinco,
section 3.2, arXiv 2412.03812). What differs: all double blocks share one modulation, all single blocks another; a
single block computes its feed-forward beside its attention, out of one projection and into one; positions have four
axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.models.transformers.transformer_flux2 import (
    Flux2AttnProcessor,
    Flux2Modulation,
    Flux2ParallelSelfAttention,
    Flux2ParallelSelfAttnProcessor,
    Flux2Transformer2DModel,
)
from torch import Tensor

from pinco.adapter.backbone import execution_device
from pinco.adapter.families.flux import FluxFamily, FluxPincoProcessor, rotated
from pinco.adapter.initialise import Dense, dense
from pinco.adapter.processor import Projections, SubjectProcessor
from pinco.adapter.subject import Subject

CLEAN_GUIDANCE = 4.0


class Flux2PincoProcessor(FluxPincoProcessor):
    """Attention processor of one adapted double block, whose attention is Flux's."""


class Flux2SinglePincoProcessor(SubjectProcessor):
    """Attention processor of one adapted single block, with the feed-forward that is fused into its projections."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        subject: Subject | None = None,
    ) -> Tensor:
        """Attend; the shapes are those of `Flux2ParallelSelfAttnProcessor`, plus the subject to attend to."""
        attended: Tensor = self.attend(attn, subject, hidden_states, attention_mask, image_rotary_emb)
        return attended

    def projections(
        self,
        attn: Any,
        image_tokens: int,
        hidden_states: Tensor,
        attention_mask: Tensor | None,
        rotary: tuple[Tensor, Tensor] | None,
    ) -> Projections:
        """Q, K and V over `[text, image]`, and what the same projection makes for the feed-forward."""
        if attention_mask is not None:
            raise ValueError("subject-aware attention takes no attention_mask")
        width = attn.inner_dim
        q, k, v, forward = attn.to_qkv_mlp_proj(hidden_states).tensor_split((width, 2 * width, 3 * width), dim=-1)
        q, k, v = (x.unflatten(-1, (-1, attn.head_dim)) for x in (q, k, v))
        q, k = attn.norm_q(q), attn.norm_k(k)
        return rotated(q, k, v, rotary, image_tokens, carried=forward)

    def output(self, attn: Any, attended: Tensor, own: Projections, *_: Any) -> Tensor:
        """One projection of the attention's output beside the feed-forward's."""
        projected: Tensor = attn.to_out(torch.cat((attended, attn.mlp_act_fn(own.carried)), dim=-1))
        return projected


class Flux2Family(FluxFamily):
    """FLUX.2 dev and klein, and every model with their transformer.

    The pipelines call the argument for the attentions `attention_kwargs`, the transformer `joint_attention_kwargs`.
    Hooks bring the subject, so that `using` serves both alike. Sizes, layers and embedder are found as in Flux;
    an image's positions have a fourth axis, which is zero.
    """

    name = "flux2"
    processors: ClassVar[Mapping[type, type[SubjectProcessor]]] = {
        Flux2AttnProcessor: Flux2PincoProcessor,
        Flux2ParallelSelfAttnProcessor: Flux2SinglePincoProcessor,
    }
    attention_argument: ClassVar[str | None] = None
    position_axes: ClassVar[int] = 4

    def owns(self, transformer: Any) -> bool:
        """Whether this is a Flux 2 transformer."""
        return isinstance(transformer, Flux2Transformer2DModel)

    def key_value(self, attention: Any) -> tuple[Dense, Dense]:
        """The key and value projections; those of a single block are cut out of its fused one."""
        if not isinstance(attention, Flux2ParallelSelfAttention):
            return super().key_value(attention)
        _, key, value = dense(attention.to_qkv_mlp_proj).split([attention.inner_dim] * 3)
        return key, value

    @torch.no_grad()
    def clean_modulations(self, transformer: Any) -> Sequence[tuple[Tensor, Tensor]]:
        """Shift and scale at timestep 0: one pair for all double blocks, one for all single blocks."""
        embed = transformer.time_guidance_embed
        zero = torch.zeros(1, device=execution_device(embed), dtype=transformer.dtype)
        conditioning = embed(zero, zero + CLEAN_GUIDANCE * 1000 if transformer.config.guidance_embeds else None)
        pairs = []
        for modulation, blocks in (
            (transformer.double_stream_modulation_img, transformer.transformer_blocks),
            (transformer.single_stream_modulation, transformer.single_transformer_blocks),
        ):
            shift, scale, _ = Flux2Modulation.split(modulation(conditioning), modulation.mod_param_sets)[0]
            pairs += [(shift.flatten().float().cpu(), scale.flatten().float().cpu())] * len(blocks)
        return pairs


FAMILY = Flux2Family()
