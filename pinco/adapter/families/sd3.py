"""Stable Diffusion 3 and 3.5: subject-aware attention in the joint attentions, and in the image's own where there are.

MM-DiT form of Pinco, section 3.2: `Z = a * MMAttn(Q, K, V) + b * MMAttn(Q, [K, K_sub], [V, V_sub])`, where Q, K, V hold
image and text tokens, in this order. In the blocks with a second attention (`attn2`, over the image's tokens alone) the
same equation holds there, without text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import Tensor, nn

from pinco.adapter.backbone import at_hand, execution_device
from pinco.adapter.config import BackboneDims
from pinco.adapter.families.base import Family
from pinco.adapter.initialise import Dense, dense
from pinco.adapter.positions import Additive, Positions
from pinco.adapter.processor import Projections, SubjectProcessor
from pinco.adapter.subject import Subject

USUAL_VAE_SCALE = 8
SECOND_SHIFT_SCALE = (6, 7)
"""Where `attn2`'s shift and scale stand among the nine modulations of a block that has one."""


class SD3PincoProcessor(SubjectProcessor):
    """Attention processor of one adapted `attn` or `attn2`."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        subject: Subject | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend; the shapes are those of `JointAttnProcessor2_0`, plus the subject to attend to."""
        attended: Tensor | tuple[Tensor, Tensor] = self.attend(
            attn, subject, hidden_states, encoder_hidden_states, attention_mask
        )
        return attended

    def projections(
        self,
        attn: Any,
        image_tokens: int,
        hidden_states: Tensor,
        text_states: Tensor | None,
        attention_mask: Tensor | None,
    ) -> Projections:
        """Q, K and V over `[image, text]`."""
        if attention_mask is not None:
            raise ValueError("subject-aware attention takes no attention_mask")
        q = _heads(attn, attn.to_q(hidden_states), attn.norm_q)
        k = _heads(attn, attn.to_k(hidden_states), attn.norm_k)
        v = _heads(attn, attn.to_v(hidden_states))
        if text_states is not None:
            text_q = _heads(attn, attn.add_q_proj(text_states), attn.norm_added_q)
            text_k = _heads(attn, attn.add_k_proj(text_states), attn.norm_added_k)
            text_v = _heads(attn, attn.add_v_proj(text_states))
            q, k, v = torch.cat((q, text_q), dim=1), torch.cat((k, text_k), dim=1), torch.cat((v, text_v), dim=1)
        return Projections(q, k, v)

    def output(
        self, attn: Any, attended: Tensor, own: Projections, hidden_states: Tensor, text_states: Tensor | None, *_: Any
    ) -> Any:
        """The image's tokens; beside them the text's, which the last block returns without a projection."""
        image, text = attended.tensor_split((hidden_states.shape[1],), dim=1)
        image = attn.to_out[1](attn.to_out[0](image.contiguous()))
        if text_states is None:
            return image
        return image, text if attn.context_pre_only else attn.to_add_out(text.contiguous())


class SD3Family(Family):
    """SD3-medium, SD3.5-medium and SD3.5-large, and every model with their transformer.

    Layer numbers count the joint attentions first and then the second attentions, both in the order of their blocks.
    """

    name = "sd3"
    processors: ClassVar[Mapping[type, type[SubjectProcessor]]] = {JointAttnProcessor2_0: SD3PincoProcessor}
    attention_argument = "joint_attention_kwargs"

    def owns(self, transformer: Any) -> bool:
        """Whether this is an SD3 transformer."""
        return isinstance(transformer, SD3Transformer2DModel)

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
        """The joint attentions of all blocks, then the second attentions of the blocks that have one."""
        blocks = transformer.transformer_blocks
        return [block.attn for block in blocks] + [block.attn2 for block in blocks if block.use_dual_attention]

    def layer_groups(self, transformer: Any) -> Mapping[str, range]:
        """`joint`, and `image` for the second attentions where there are any."""
        joint, depth = len(transformer.transformer_blocks), len(self.attentions(transformer))
        return {"joint": range(joint)} | ({"image": range(joint, depth)} if depth > joint else {})

    def embedder(self, transformer: Any) -> Dense:
        """The patch convolution, without the positions that are added behind it."""
        return dense(transformer.pos_embed.proj)

    @torch.no_grad()
    def clean_modulations(self, transformer: Any) -> Sequence[tuple[Tensor, Tensor]]:
        """Shift and scale of every block's input norm at timestep 0, with an empty pooled text embedding."""
        zero = torch.zeros(1, device=execution_device(transformer.time_text_embed), dtype=transformer.dtype)
        conditioning = transformer.time_text_embed(zero, zero.new_zeros(1, transformer.config.pooled_projection_dim))
        joint, image = [], []
        for block in transformer.transformer_blocks:
            parts = block.norm1.linear(block.norm1.silu(conditioning))[0].float().cpu().split(transformer.inner_dim)
            joint.append((parts[0], parts[1]))
            if block.use_dual_attention:
                shift, scale = SECOND_SHIFT_SCALE
                image.append((parts[shift], parts[scale]))
        return joint + image

    def positions(self, transformer: Any, grid: tuple[int, int], device: Any) -> Positions:
        """The rows of the table that the backbone adds to the patches of an image of this size.

        SD3 has no rotary embedding, and the paper does not treat it. Ours: the subject tokens get the table on the key
        path, before the projection. The backbone adds it to its embedded patches, whose scale F no longer has: F is
        normalised, and how much the positions weigh beside the content is left to the learned projection.

        Raises:
            ValueError: The image is larger than the backbone's table.
        """
        rows, columns = (side * transformer.config.patch_size for side in grid)
        with at_hand(transformer.pos_embed):
            return Additive(transformer.pos_embed.cropped_pos_embed(rows, columns)[0].to(device))


def _heads(attn: Any, x: Tensor, norm: Any = None) -> Tensor:
    """`[B, S, H * D]` to `[B, S, H, D]`, normalised where the backbone does so."""
    x = x.unflatten(-1, (attn.heads, -1))
    return x if norm is None else norm(x)


FAMILY = SD3Family()
