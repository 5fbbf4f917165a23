"""Flux: subject-aware attention in the double and the single blocks.

MM-DiT form of Pinco, section 3.2: `Z = a * MMAttn(Q, K, V) + b * MMAttn(Q, [K, K_sub], [V, V_sub])`, where Q, K, V hold
text and image tokens, in this order. The subject keys take the image's rows of the rotary table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import (
    FluxAttnProcessor,
    FluxTransformer2DModel,
    _get_qkv_projections,
)
from torch import Tensor, nn

from pinco.adapter.backbone import execution_device
from pinco.adapter.config import BackboneDims
from pinco.adapter.families.base import Family
from pinco.adapter.initialise import Dense, dense
from pinco.adapter.positions import Positions, Rotary
from pinco.adapter.processor import Projections, SubjectProcessor
from pinco.adapter.subject import Subject

PATCH_SIZE = 2
"""Flux packs 2 x 2 latent pixels into a token outside the transformer, whose own `patch_size` therefore is 1."""

USUAL_VAE_SCALE = 8
CLEAN_GUIDANCE = 3.5


def rotated(
    q: Tensor, k: Tensor, v: Tensor, rotary: tuple[Tensor, Tensor] | None, image_tokens: int, carried: Any = None
) -> Projections:
    """Q and K turned by the backbone's table, whose last rows are the image's.

    Args:
        q: `[B, S, H, D]` over text and image.
        k: `[B, S, H, D]`.
        v: `[B, S, H, D]`.
        rotary: Cosines and sines, each `[S, D]`; `None` leaves all without positions.
        image_tokens: How many rows are the image's.
        carried: Handed on to the processor's `output`.
    """
    if rotary is None:
        return Projections(q, k, v, carried=carried)
    q, k = (apply_rotary_emb(x, rotary, sequence_dim=1) for x in (q, k))
    return Projections(q, k, v, Rotary(*rotary).last(image_tokens), carried=carried)


class FluxPincoProcessor(SubjectProcessor):
    """Attention processor of one adapted double or single block."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        subject: Subject | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend; the shapes are those of `FluxAttnProcessor`, plus the subject to attend to."""
        attended: Tensor | tuple[Tensor, Tensor] = self.attend(
            attn, subject, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
        )
        return attended

    def projections(
        self,
        attn: Any,
        image_tokens: int,
        hidden_states: Tensor,
        text_states: Tensor | None,
        attention_mask: Tensor | None,
        rotary: tuple[Tensor, Tensor] | None,
    ) -> Projections:
        """Q, K and V over `[text, image]`; diffusers' helper also serves fused projections."""
        if attention_mask is not None:
            raise ValueError("subject-aware attention takes no attention_mask")
        q, k, v, *text = _get_qkv_projections(attn, hidden_states, text_states)
        q, k, v = (x.unflatten(-1, (-1, attn.head_dim)) for x in (q, k, v))
        q, k = attn.norm_q(q), attn.norm_k(k)
        if attn.added_kv_proj_dim is not None:
            text_q, text_k, text_v = (x.unflatten(-1, (-1, attn.head_dim)) for x in text)
            text_q, text_k = attn.norm_added_q(text_q), attn.norm_added_k(text_k)
            q, k, v = torch.cat((text_q, q), dim=1), torch.cat((text_k, k), dim=1), torch.cat((text_v, v), dim=1)
        return rotated(q, k, v, rotary, image_tokens)

    def output(
        self, attn: Any, attended: Tensor, own: Projections, hidden_states: Tensor, text_states: Tensor | None, *_: Any
    ) -> Any:
        """Output projections of a double block (image, text), or nothing for a single block, which projects later."""
        if text_states is None:
            return attended
        text, image = attended.split((text_states.shape[1], attended.shape[1] - text_states.shape[1]), dim=1)
        return attn.to_out[1](attn.to_out[0](image.contiguous())), attn.to_add_out(text.contiguous())


class FluxFamily(Family):
    """FLUX.1 dev, schnell, and every model with their transformer."""

    name = "flux"
    processors: ClassVar[Mapping[type, type[SubjectProcessor]]] = {FluxAttnProcessor: FluxPincoProcessor}
    attention_argument: ClassVar[str | None] = "joint_attention_kwargs"
    position_axes: ClassVar[int] = 3

    def owns(self, transformer: Any) -> bool:
        """Whether this is a Flux transformer."""
        return isinstance(transformer, FluxTransformer2DModel)

    def dims(self, transformer: Any, vae_config: Mapping[str, Any] | None) -> BackboneDims:
        """Sizes from the transformer's config, and the VAE's reduction from the number of its blocks."""
        return self.dims_of(
            transformer,
            vae_config,
            latent_channels=transformer.config.in_channels // PATCH_SIZE**2,
            patch_size=PATCH_SIZE,
            usual_vae_scale=USUAL_VAE_SCALE,
        )

    def attentions(self, transformer: Any) -> Sequence[nn.Module]:
        """The joint attentions of the double blocks, then those of the single blocks."""
        return [block.attn for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks)]

    def layer_groups(self, transformer: Any) -> Mapping[str, range]:
        """The double blocks and the single blocks."""
        double, depth = len(transformer.transformer_blocks), len(self.attentions(transformer))
        return {"double": range(double), "single": range(double, depth)}

    def embedder(self, transformer: Any) -> Dense:
        """`x_embedder`, which takes packed 2 x 2 latents."""
        return dense(transformer.x_embedder)

    @torch.no_grad()
    def clean_modulations(self, transformer: Any) -> Sequence[tuple[Tensor, Tensor]]:
        """Shift and scale of every block's input norm at timestep 0, with an empty pooled text embedding."""
        zero = torch.zeros(1, device=execution_device(transformer.time_text_embed), dtype=transformer.dtype)
        pooled = zero.new_zeros(1, transformer.config.pooled_projection_dim)
        extra = (zero + CLEAN_GUIDANCE * 1000,) if transformer.config.guidance_embeds else ()
        conditioning = transformer.time_text_embed(zero, *extra, pooled)
        norms = [block.norm1 for block in transformer.transformer_blocks]
        norms += [block.norm for block in transformer.single_transformer_blocks]
        shifts_scales = []
        for norm in norms:
            shift, scale, *_ = norm.linear(norm.silu(conditioning))[0].float().cpu().split(transformer.inner_dim)
            shifts_scales.append((shift, scale))
        return shifts_scales

    def positions(self, transformer: Any, grid: tuple[int, int], device: Any) -> Positions:
        """The rotary table of the image ids that the pipelines make: axis 0 is zero, then row and column."""
        rows, columns = grid
        ids = torch.zeros(rows, columns, self.position_axes, device=device)
        ids[..., 1] = torch.arange(rows, device=device)[:, None]
        ids[..., 2] = torch.arange(columns, device=device)
        return Rotary(*transformer.pos_embed(ids.flatten(0, 1)))


FAMILY = FluxFamily()
