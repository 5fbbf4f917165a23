"""Flux: subject-aware attention in the double and the single blocks.

MM-DiT form of Pinco, section 3.2: `Z = a * MMAttn(Q, K, V) + b * MMAttn(Q, [K, K_sub], [V, V_sub])`, where Q, K, V hold
text and image tokens, in this order. The subject keys take the image's rows of the rotary table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import (
    FluxAttnProcessor,
    FluxTransformer2DModel,
    _get_qkv_projections,
)
from torch import Tensor, nn

from pinco.adapter.attention import subject_attention
from pinco.adapter.config import BackboneDims
from pinco.adapter.families.base import AttachedAdapter
from pinco.adapter.layer import SubjectLayer
from pinco.adapter.positions import Rotary, gather_rows, image_rows, rotate
from pinco.adapter.subject import KeyValue, Subject

PATCH_SIZE = 2
"""Flux packs 2 x 2 latent pixels into a token outside the transformer, whose own `patch_size` therefore is 1."""

USUAL_VAE_SCALE = 8
CLEAN_GUIDANCE = 3.5


class FluxPincoProcessor:
    """Attention processor of one adapted layer. No `nn.Module`, so that no weight enters the backbone's state dict.

    Without a subject, and where the layer's gates are all zero, it hands the call to the original processor: only the
    backbone's own kernel is bit-identical to the backbone.
    """

    def __init__(
        self,
        number: int | None = None,
        layer: SubjectLayer | None = None,
        adapter: AttachedAdapter | None = None,
        base: FluxAttnProcessor | None = None,
    ) -> None:
        if number is None or layer is None or adapter is None or base is None:
            # diffusers' load_ip_adapter makes every single block's processor again, from its class alone.
            raise RuntimeError(
                "a Pinco adapter is attached to this backbone and its processors cannot be made anew: "
                "call adapter.detach() before load_ip_adapter or set_attn_processor"
            )
        self.number = number
        self.layer = layer
        self.adapter = adapter
        self.base = base

    @property
    def _attention_backend(self) -> Any:
        return self.base._attention_backend

    @_attention_backend.setter
    def _attention_backend(self, backend: Any) -> None:
        self.base._attention_backend = backend

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
        subject: Subject | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend; the shapes are those of `FluxAttnProcessor`, plus the subject to attend to."""
        if subject is None or self._silent(subject):
            unchanged: Tensor | tuple[Tensor, Tensor] = self.base(
                attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
            )
            return unchanged
        if attention_mask is not None:
            raise ValueError("subject-aware attention takes no attention_mask")
        subject = subject.expand(hidden_states.shape[0])
        query, key, value = _joint_projections(attn, hidden_states, encoder_hidden_states)
        if image_rotary_emb is not None:
            query = apply_rotary_emb(query, image_rotary_emb, sequence_dim=1)
            key = apply_rotary_emb(key, image_rotary_emb, sequence_dim=1)
        subject_key, subject_value = self._keys_values(subject, image_rotary_emb)
        q, k, v, ks, vs = (x.transpose(1, 2) for x in (query, key, value, subject_key, subject_value))
        a, b = self.adapter.weights(self.layer)
        attended = subject_attention(q, k, v, ks, vs, a, b, subject.keep)
        return _project_out(attn, attended.transpose(1, 2).flatten(2, 3), encoder_hidden_states)

    def _silent(self, subject: Subject) -> bool:
        if self.adapter.silent:
            return True
        if subject.cache is not None:
            return subject.cache[self.number] is None
        gate = self.layer.gate.value
        # While training, a zero gate must still get its gradient; on an accelerator the test would wait for the device,
        # which is why a cache settles it once per subject.
        return not (torch.is_grad_enabled() and gate.requires_grad) and not bool(gate.any())

    def _keys_values(self, subject: Subject, rotary: Rotary | None) -> KeyValue:
        if subject.cache is not None:
            if torch.is_grad_enabled() and self.layer.gate.value.requires_grad:
                raise RuntimeError("a cached subject carries no gradients: encode it with cache=False to train")
            cached = subject.cache[self.number]
            assert cached is not None  # _silent has sent those to the base processor
            return cached
        anchor = rotary if self.adapter.anchor else None
        return keys_values(self.layer, subject, None if anchor is None else image_rows(anchor, subject.latent_tokens))


def keys_values(layer: SubjectLayer, subject: Subject, anchor: Rotary | None) -> KeyValue:
    """Keys, at the positions of `anchor` (one row per latent token) if there is one, and values `[B, N_sub, H, D]`."""
    keys, values = layer(subject.tokens)
    if anchor is not None:
        keys = rotate(keys, gather_rows(anchor, subject.index))
    return keys, values


def _joint_projections(attn: Any, hidden_states: Tensor, text_states: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised Q, K and V over `[text, image]`, `[B, S, H, D]`; diffusers' helper also serves fused projections."""
    q, k, v, *text = _get_qkv_projections(attn, hidden_states, text_states)
    q, k, v = (x.unflatten(-1, (-1, attn.head_dim)) for x in (q, k, v))
    q, k = attn.norm_q(q), attn.norm_k(k)
    if attn.added_kv_proj_dim is None:
        return q, k, v
    text_q, text_k, text_v = (x.unflatten(-1, (-1, attn.head_dim)) for x in text)
    text_q, text_k = attn.norm_added_q(text_q), attn.norm_added_k(text_k)
    return torch.cat((text_q, q), dim=1), torch.cat((text_k, k), dim=1), torch.cat((text_v, v), dim=1)


def _project_out(attn: Any, attended: Tensor, text_states: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
    """Output projections of a double block (image, text), or nothing for a single block, which projects later."""
    if text_states is None:
        return attended
    text, image = attended.split((text_states.shape[1], attended.shape[1] - text_states.shape[1]), dim=1)
    return attn.to_out[1](attn.to_out[0](image.contiguous())), attn.to_add_out(text.contiguous())


class FluxFamily:
    """FLUX.1 dev, schnell, and every model with their transformer."""

    name = "flux"

    def owns(self, transformer: Any) -> bool:
        """Whether this is a Flux transformer."""
        return isinstance(transformer, FluxTransformer2DModel)

    def dims(self, transformer: Any, vae_config: Mapping[str, Any] | None) -> BackboneDims:
        """Sizes from the transformer's config, and the VAE's reduction from the number of its blocks.

        Raises `ValueError` if the VAE's latents are not what the transformer takes.
        """
        config = transformer.config
        channels, scale = config.in_channels // PATCH_SIZE**2, USUAL_VAE_SCALE
        if vae_config is not None:
            scale = 2 ** (len(vae_config["block_out_channels"]) - 1)
            if vae_config["latent_channels"] != channels:
                raise ValueError(
                    f"the VAE makes {vae_config['latent_channels']} latent channels, the transformer takes {channels}"
                )
        return BackboneDims(
            family=self.name,
            inner_dim=config.num_attention_heads * config.attention_head_dim,
            num_heads=config.num_attention_heads,
            head_dim=config.attention_head_dim,
            num_layers=config.num_layers,
            num_single_layers=config.num_single_layers,
            latent_channels=channels,
            patch_size=PATCH_SIZE,
            vae_scale_factor=scale,
        )

    def attentions(self, transformer: Any) -> Sequence[nn.Module]:
        """The joint attentions of the double blocks, then those of the single blocks."""
        return [block.attn for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks)]

    def embedder(self, transformer: Any) -> nn.Module:
        """`x_embedder`, which takes packed 2 x 2 latents."""
        embedder: nn.Module = transformer.x_embedder
        return embedder

    @torch.no_grad()
    def clean_modulations(self, transformer: Any) -> Sequence[tuple[Tensor, Tensor]]:
        """Shift and scale of every block's input norm at timestep 0, with an empty pooled text embedding."""
        parameter = next(transformer.time_text_embed.parameters())
        zero = torch.zeros(1, device=parameter.device, dtype=transformer.dtype)
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

    def positions(self, transformer: Any, grid: tuple[int, int], device: Any) -> Rotary:
        """The rotary table of the image ids that `FluxPipeline` makes: axis 0 is zero, then row and column."""
        rows, columns = grid
        ids = torch.zeros(rows, columns, 3, device=device)
        ids[..., 1] = torch.arange(rows, device=device)[:, None]
        ids[..., 2] = torch.arange(columns, device=device)
        table: Rotary = transformer.pos_embed(ids.flatten(0, 1))
        return table

    def keys_values(self, layer: SubjectLayer, subject: Subject, positions: Rotary | None) -> KeyValue:
        """Rotated keys and values, `[B, N_sub, H, D]`."""
        return keys_values(layer, subject, positions)

    def processor(self, number: int, layer: SubjectLayer, adapter: AttachedAdapter, base: Any) -> FluxPincoProcessor:
        """A processor over the stock one; a foreign processor would be silenced, so it is refused."""
        if type(base) is not FluxAttnProcessor:
            raise ValueError(
                f"layer {number} of the backbone has a foreign attention processor ({type(base).__name__}), which "
                "Pinco would replace. Take off what put it there (unload_ip_adapter, adapter.detach), then attach Pinco"
            )
        return FluxPincoProcessor(number, layer, adapter, base)

    def entered(self, processor: Any) -> bool:
        """Whether this is a Pinco processor."""
        return isinstance(processor, FluxPincoProcessor)
