"""Z-Image: subject-aware attention in the single-stream blocks and in those that refine the noisy image before them.

MM-DiT form of Pinco, section 3.2 (arXiv 2412.03812), over `[image, text]`. The image's positions start behind the
caption, so they are known in a call only. The caption's own refiner blocks see no image and are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel, ZSingleStreamAttnProcessor
from torch import Tensor, nn

from pinco.adapter.backbone import at_hand, execution_device
from pinco.adapter.config import BackboneDims
from pinco.adapter.families.base import Family, key_norm_kind, vae_scale
from pinco.adapter.initialise import Dense, dense
from pinco.adapter.positions import Positions, Rotary, rotate
from pinco.adapter.processor import Projections, SubjectProcessor
from pinco.adapter.subject import Subject

PATCH_SIZE = 2
USUAL_VAE_SCALE = 8


class ZImagePincoProcessor(SubjectProcessor):
    """Attention processor of one adapted block."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
        subject: Subject | None = None,
    ) -> Tensor:
        """Attend; the shapes are those of `ZSingleStreamAttnProcessor`, plus the subject to attend to."""
        attended: Tensor = self.attend(attn, subject, hidden_states, encoder_hidden_states, attention_mask, freqs_cis)
        return attended

    def projections(
        self,
        attn: Any,
        image_tokens: int,
        hidden_states: Tensor,
        text_states: Tensor | None,
        attention_mask: Tensor | None,
        frequencies: Tensor | None,
    ) -> Projections:
        """Q, K and V over `[image, text]`, with padding behind the shorter samples of a batch."""
        if attention_mask is not None and attention_mask.ndim != 2:
            raise ValueError(
                f"subject-aware attention takes a mask of keys [B, S], not one of {attention_mask.ndim} axes"
            )
        q, k, v = (
            project(hidden_states).unflatten(-1, (attn.heads, -1)) for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        if attn.norm_q is not None:
            q = attn.norm_q(q)
        if attn.norm_k is not None:
            k = attn.norm_k(k)
        if frequencies is None:
            return Projections(q, k, v, keep=attention_mask)
        table = rotary(frequencies)
        q, k = rotate(q, table.cos, table.sin), rotate(k, table.cos, table.sin)
        first = Rotary(table.cos[:, :image_tokens], table.sin[:, :image_tokens])
        return Projections(q, k, v, first, attention_mask)

    def output(self, attn: Any, attended: Tensor, own: Projections, *_: Any) -> Tensor:
        """The output projection, with its dropout where there is one."""
        for module in attn.to_out:
            attended = module(attended)
        return attended


class ZImageFamily(Family):
    """Z-Image Turbo and Z-Image. Omni, whose sequences hold several images, is another family.

    The transformer takes `joint_attention_kwargs` and passes none of them down: hooks bring the subject.
    """

    name = "z_image"
    processors: ClassVar[Mapping[type, type[SubjectProcessor]]] = {ZSingleStreamAttnProcessor: ZImagePincoProcessor}

    def owns(self, transformer: Any) -> bool:
        """Whether this is a Z-Image transformer without image features of its own (those are Omni's)."""
        return isinstance(transformer, ZImageTransformer2DModel) and transformer.config.siglip_feat_dim is None

    def dims(self, transformer: Any, vae_config: Mapping[str, Any] | None) -> BackboneDims:
        """Sizes from the transformer's config, and the VAE's reduction from the number of its blocks."""
        config = transformer.config
        attentions = self.attentions(transformer)
        return BackboneDims(
            family=self.name,
            inner_dim=config.dim,
            num_heads=config.n_heads,
            head_dim=config.dim // config.n_heads,
            depth=len(attentions),
            latent_channels=config.in_channels,
            patch_size=PATCH_SIZE,
            vae_scale_factor=USUAL_VAE_SCALE if vae_config is None else vae_scale(vae_config, config.in_channels),
            key_norm=key_norm_kind(self.key_norm(attentions[0])),
        )

    def attentions(self, transformer: Any) -> Sequence[nn.Module]:
        """Those of the blocks that refine the noisy image, then those of the blocks over image and text."""
        return [block.attention for block in _blocks(transformer)]

    def layer_groups(self, transformer: Any) -> Mapping[str, range]:
        """The refining blocks and the joint ones."""
        refining, depth = len(transformer.noise_refiner), len(_blocks(transformer))
        return {"refiner": range(refining), "joint": range(refining, depth)}

    def embedder(self, transformer: Any) -> Dense:
        """The embedder of 2 x 2 patches in one frame, whose tokens hold their channels last."""
        own = dense(transformer.all_x_embedder[f"{PATCH_SIZE}-1"])
        weight = own.weight.unflatten(1, (PATCH_SIZE**2, -1)).transpose(1, 2).flatten(1)
        return Dense(weight.contiguous(), own.bias)

    @torch.no_grad()
    def clean_modulations(self, transformer: Any) -> Sequence[tuple[Tensor, Tensor]]:
        """The scale of every block's input norm, times the norm's weights, at t = 1, which is without noise here.

        The blocks normalise by root mean square, the subject tokens by layer norm. Both are the same for a token whose
        channels have no mean; otherwise this start is near the backbone's, not equal to it.
        """
        embedder = transformer.t_embedder
        one = torch.ones(1, device=execution_device(embedder))
        conditioning = embedder(one * transformer.t_scale).to(transformer.dtype)
        pairs = []
        for block in _blocks(transformer):
            scale = block.adaLN_modulation(conditioning)[0].float().cpu().chunk(4)[0]
            with at_hand(block.attention_norm1):
                weight = block.attention_norm1.weight.float().cpu()
            pairs.append((torch.zeros_like(scale), (1 + scale) * weight - 1))
        return pairs

    def positions(self, transformer: Any, grid: tuple[int, int], device: Any) -> Positions | None:
        """Nothing: the first axis starts at the caption's length."""
        return None

    def latent_size(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], patch_size: int) -> tuple[int, ...]:
        """Rows and columns of tokens in each of the list of latents `[C, 1, h, w]`.

        Raises:
            ValueError: Latents of several sizes, or several images in one sample.
        """
        latents = kwargs["x"] if "x" in kwargs else args[0]
        sizes = {None if isinstance(one, (list, tuple)) else tuple(one.shape[-3:]) for one in latents}
        size = next(iter(sizes))
        if len(sizes) > 1 or size is None or size[0] != 1:
            raise ValueError(
                "a subject needs one image of one size in every sample of the call: call the transformer once per size"
            )
        return (size[1] // patch_size, size[2] // patch_size)


def rotary(frequencies: Tensor) -> Rotary:
    """The backbone's complex table `[B, S, D / 2]` as one of pairs `[B, S, D]`."""
    return Rotary(frequencies.real.repeat_interleave(2, dim=-1), frequencies.imag.repeat_interleave(2, dim=-1))


def _blocks(transformer: Any) -> list[Any]:
    return [*transformer.noise_refiner, *transformer.layers]


FAMILY = ZImageFamily()
