"""Hunyuan-DiT: subject-aware attention in the self-attention of every block.

DiT form of Pinco, section 3.2: `Z = a * SelfAttn(Q, K, V) + b * CrossAttn(Q, K_sub, V_sub)`. The subject keys are
turned by the image's rotary table; the stock cross-attention of diffusers would leave its keys unturned.

The transformer takes no attention arguments, so hooks bring the subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import HunyuanDiT2DModel
from diffusers.models.attention_processor import HunyuanAttnProcessor2_0
from diffusers.models.embeddings import apply_rotary_emb, get_2d_rotary_pos_embed
from torch import Tensor, nn

from pinco.adapter.backbone import at_hand, execution_device
from pinco.adapter.config import BackboneDims
from pinco.adapter.equation import Form
from pinco.adapter.families.base import Family
from pinco.adapter.initialise import Dense, dense
from pinco.adapter.positions import Positions, Rotary
from pinco.adapter.processor import Projections, SubjectProcessor
from pinco.adapter.subject import Subject

USUAL_VAE_SCALE = 8
BASE_LATENTS = 64
"""Side, in latent pixels, of the square that the rotary grid of every image size is fitted into (512 pixels)."""


class HunyuanPincoProcessor(SubjectProcessor):
    """Attention processor of one adapted self-attention."""

    form: ClassVar[Form] = "separate"

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        subject: Subject | None = None,
    ) -> Tensor:
        """Attend; the shapes are those of `HunyuanAttnProcessor2_0`, plus the subject to attend to."""
        attended: Tensor = self.attend(
            attn, subject, hidden_states, encoder_hidden_states, attention_mask, temb, image_rotary_emb
        )
        return attended

    def projections(
        self,
        attn: Any,
        image_tokens: int,
        hidden_states: Tensor,
        text_states: Tensor | None,
        attention_mask: Tensor | None,
        temb: Tensor | None,
        rotary: tuple[Tensor, Tensor] | None,
    ) -> Projections:
        """Q, K and V of the image's tokens."""
        if text_states is not None or attention_mask is not None:
            raise ValueError("subject-aware attention is self-attention: it takes no text and no attention_mask")
        heads = (-1, attn.inner_dim // attn.heads)
        q, k, v = (project(hidden_states).unflatten(-1, heads) for project in (attn.to_q, attn.to_k, attn.to_v))
        if attn.norm_q is not None:
            q, k = attn.norm_q(q), attn.norm_k(k)
        if rotary is None:
            return Projections(q, k, v)
        q = apply_rotary_emb(q, rotary, sequence_dim=1)
        k = apply_rotary_emb(k, rotary, sequence_dim=1)
        return Projections(q, k, v, Rotary(*rotary))

    def output(self, attn: Any, attended: Tensor, own: Projections, *_: Any) -> Any:
        """The output projection."""
        return attn.to_out[1](attn.to_out[0](attended))


class HunyuanFamily(Family):
    """Hunyuan-DiT 1.0 to 1.2, and every model with their transformer."""

    name = "hunyuan"
    processors: ClassVar[Mapping[type, type[SubjectProcessor]]] = {HunyuanAttnProcessor2_0: HunyuanPincoProcessor}
    attention_argument = None

    def owns(self, transformer: Any) -> bool:
        """Whether this is a Hunyuan-DiT transformer."""
        return isinstance(transformer, HunyuanDiT2DModel)

    def dims(self, transformer: Any, vae_config: Mapping[str, Any] | None) -> BackboneDims:
        """Sizes from the transformer's config; it takes latents `[B, C, h, w]` and cuts them into patches itself."""
        config = transformer.config
        return self.dims_of(
            transformer,
            vae_config,
            latent_channels=config.in_channels,
            patch_size=config.patch_size,
            usual_vae_scale=USUAL_VAE_SCALE,
        )

    def attentions(self, transformer: Any) -> Sequence[nn.Module]:
        """The self-attentions; `attn2` is the one to the text."""
        return [block.attn1 for block in transformer.blocks]

    def embedder(self, transformer: Any) -> Dense:
        """The patch convolution."""
        return dense(transformer.pos_embed.proj)

    @torch.no_grad()
    def clean_modulations(self, transformer: Any) -> Sequence[tuple[Tensor, Tensor]]:
        """Shift and scale of every block's input norm at timestep 0, with an empty text, at the backbone's usual size.

        The norm has weights of its own, and the timestep only shifts it.
        """
        config, dtype = transformer.config, transformer.dtype
        device = execution_device(transformer.time_extra_emb)
        text = torch.zeros(1, config.text_len_t5, config.cross_attention_dim_t5, device=device, dtype=dtype)
        side = float(config.sample_size * USUAL_VAE_SCALE)
        sizes = torch.tensor([[side, side, side, side, 0, 0]], device=device, dtype=dtype)
        style = torch.zeros(1, device=device, dtype=torch.long)
        zero = torch.zeros(1, device=device, dtype=dtype)
        conditioning = transformer.time_extra_emb(zero, text, sizes, style, hidden_dtype=dtype)
        modulations = []
        for block in transformer.blocks:
            norm = block.norm1
            shift = norm.linear(norm.silu(conditioning.float()).to(dtype))[0]
            with at_hand(norm.norm):
                bias, weight = norm.norm.bias.float().cpu(), norm.norm.weight.float().cpu()
            modulations.append((shift.float().cpu() + bias, weight - 1))
        return modulations

    def positions(self, transformer: Any, grid: tuple[int, int], device: Any) -> Positions:
        """The rotary table that `HunyuanDiTPipeline` makes: a grid of fractions that fills the base square's region."""
        # The pipeline's module is slow to import and only needed here.
        from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid

        config = transformer.config
        region = get_resize_crop_region_for_grid(grid, BASE_LATENTS // config.patch_size)
        return Rotary(
            *get_2d_rotary_pos_embed(config.attention_head_dim, region, grid, device=device, output_type="pt")
        )


FAMILY = HunyuanFamily()
