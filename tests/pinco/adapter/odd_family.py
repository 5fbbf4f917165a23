"""A backbone as unlike the others as a few lines allow, and its family: the proof that shared code knows none of them.

Latents `[B, C, h, w]` through a convolution with 4 x 4 patches, an added position table, `[image, text]` in one
sequence with a text mask, fused projections, layer norms with an affine part on the keys and before the attention,
skip connections, no attention arguments (so hooks bring the subject), the DiT form of the equation. It is also the
example of `docs/adding-a-family.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps, get_2d_sincos_pos_embed
from torch import Tensor, nn

from pinco.adapter.backbone import at_hand
from pinco.adapter.config import BackboneDims
from pinco.adapter.families import register
from pinco.adapter.families.base import Family, key_norm_kind, vae_scale
from pinco.adapter.initialise import Dense, dense
from pinco.adapter.positions import Additive, Positions
from pinco.adapter.processor import Projections, SubjectProcessor
from pinco.adapter.subject import Subject

LARGEST_SIDE = 16


class OddAttnProcessor:
    """The backbone's own attention."""

    def __call__(self, attn: OddAttention, hidden_states: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in attn.heads_of(hidden_states))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
        projected: Tensor = attn.to_out(attended.transpose(1, 2).flatten(2))
        return projected


class OddAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_q = nn.LayerNorm(width // heads, eps=1e-6)
        self.norm_k = nn.LayerNorm(width // heads, eps=1e-6)
        self.to_out = nn.Linear(width, width)
        self.processor: Any = OddAttnProcessor()

    def set_processor(self, processor: Any) -> None:
        self.processor = processor

    def heads_of(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised queries and keys, and values, `[B, S, H, D]`."""
        q, k, v = (x.unflatten(-1, (self.heads, -1)) for x in self.qkv(hidden_states).chunk(3, dim=-1))
        return self.norm_q(q), self.norm_k(k), v

    def forward(self, hidden_states: Tensor, mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        attended: Tensor = self.processor(self, hidden_states, mask, **kwargs)
        return attended


class OddBlock(nn.Module):
    def __init__(self, width: int, heads: int, skip: bool) -> None:
        super().__init__()
        self.join = nn.Linear(2 * width, width) if skip else None
        self.shift = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = OddAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.ff = nn.Linear(width, width)

    def forward(self, x: Tensor, conditioning: Tensor, mask: Tensor | None, skip: Tensor | None) -> Tensor:
        if self.join is not None:
            x = self.join(torch.cat((x, skip), dim=-1))
        x = x + self.attn(self.norm1(x) + self.shift(conditioning)[:, None], mask=mask)
        return x + self.ff(F.silu(self.norm2(x)))


class OddTransformer(ModelMixin, ConfigMixin):
    """Predicts the velocity of a noised latent, `[B, C, h, w]` to the same."""

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        channels: int = 4,
        patch_size: int = 4,
        width: int = 32,
        heads: int = 2,
        depth: int = 3,
        text_width: int = 8,
    ) -> None:
        super().__init__()
        self.patch = nn.Conv2d(channels, width, patch_size, patch_size)
        self.text = nn.Linear(text_width, width)
        self.time = Timesteps(16, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(16, width)
        table = get_2d_sincos_pos_embed(width, LARGEST_SIDE, output_type="pt").float()
        self.register_buffer("table", table.view(LARGEST_SIDE, LARGEST_SIDE, width), persistent=False)
        self.blocks = nn.ModuleList(OddBlock(width, heads, skip=n > depth // 2) for n in range(depth))
        self.out = nn.Linear(width, channels * patch_size**2)
        self.gradient_checkpointing = False

    def conditioning(self, timestep: Tensor) -> Tensor:
        embedded: Tensor = self.time_embedding(self.time(timestep * 1000).to(self.out.weight.dtype))
        return embedded

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        rows, columns = (side // self.config.patch_size for side in hidden_states.shape[-2:])
        image = self.patch(hidden_states).flatten(2).transpose(1, 2)
        image = image + self.table[:rows, :columns].flatten(0, 1).to(image.dtype)
        x = torch.cat((image, self.text(encoder_hidden_states)), dim=1)
        mask = None if text_mask is None else F.pad(text_mask, (rows * columns, 0), value=True)
        conditioning, kept = self.conditioning(timestep), []
        for block in self.blocks:
            skip = kept.pop() if block.join is not None else None
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x = self._gradient_checkpointing_func(block, x, conditioning, mask, skip)
            else:
                x = block(x, conditioning, mask, skip)
            if block.join is None:
                kept.append(x)
        tokens = self.out(x[:, : rows * columns]).transpose(1, 2).unflatten(2, (rows, columns))
        velocity = F.pixel_shuffle(tokens, self.config.patch_size)
        return {"sample": velocity} if return_dict else (velocity,)


class OddPincoProcessor(SubjectProcessor):
    form = "separate"

    def __call__(
        self, attn: OddAttention, hidden_states: Tensor, mask: Tensor | None = None, subject: Subject | None = None
    ) -> Tensor:
        attended: Tensor = self.attend(attn, subject, hidden_states, mask)
        return attended

    def projections(
        self, attn: OddAttention, image_tokens: int, hidden_states: Tensor, mask: Tensor | None
    ) -> Projections:
        return Projections(*attn.heads_of(hidden_states), keep=mask)

    def output(self, attn: OddAttention, attended: Tensor, own: Projections, *_: Any) -> Tensor:
        projected: Tensor = attn.to_out(attended)
        return projected


class OddFamily(Family):
    name = "odd"
    processors: ClassVar[Mapping[type, type[SubjectProcessor]]] = {OddAttnProcessor: OddPincoProcessor}

    def owns(self, transformer: Any) -> bool:
        return isinstance(transformer, OddTransformer)

    def dims(self, transformer: OddTransformer, vae_config: Mapping[str, Any] | None) -> BackboneDims:
        config = transformer.config
        return BackboneDims(
            family=self.name,
            inner_dim=config.width,
            num_heads=config.heads,
            head_dim=config.width // config.heads,
            depth=config.depth,
            latent_channels=config.channels,
            patch_size=config.patch_size,
            vae_scale_factor=2 if vae_config is None else vae_scale(vae_config, config.channels),
            key_norm=key_norm_kind(self.key_norm(transformer.blocks[0].attn)),
        )

    def attentions(self, transformer: OddTransformer) -> Sequence[nn.Module]:
        return [block.attn for block in transformer.blocks]

    def layer_groups(self, transformer: OddTransformer) -> Mapping[str, range]:
        turn = transformer.config.depth // 2 + 1
        return {"down": range(turn), "up": range(turn, transformer.config.depth)}

    def embedder(self, transformer: OddTransformer) -> Dense:
        return dense(transformer.patch)

    def key_value(self, attention: Any) -> tuple[Dense, Dense]:
        fused = dense(attention.qkv)
        _, key, value = fused.split([fused.weight.shape[1]] * 3)
        return key, value

    @torch.no_grad()
    def clean_modulations(self, transformer: OddTransformer) -> Sequence[tuple[Tensor, Tensor]]:
        conditioning = transformer.conditioning(torch.zeros(1))
        modulations = []
        for block in transformer.blocks:
            with at_hand(block.norm1):
                bias, weight = block.norm1.bias.float(), block.norm1.weight.float()
            modulations.append((bias + block.shift(conditioning)[0].float(), weight - 1))
        return modulations

    def positions(self, transformer: OddTransformer, grid: tuple[int, int], device: Any) -> Positions:
        return Additive(transformer.table[: grid[0], : grid[1]].flatten(0, 1).to(device))


FAMILY = register(OddFamily())
