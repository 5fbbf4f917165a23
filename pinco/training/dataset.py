"""Cached training data: all frozen parts (VAE latents, text embeddings) are computed once, before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch

from pinco.training.losses import token_cover


@dataclass(frozen=True)
class Bucket:
    """Samples of one size.

    Attributes:
        latents: `[N, T, D]`, packed clean latents of the pictures.
        subject_latents: `[N, C, h, w]`, latents of the subjects with their background removed.
        maps: uint8 `[N, 3, H, W]`: mask, depth, Sobel.
        text: int64 `[N]`, rows of the text tables.
        grid: token rows and columns.

    Raises:
        ValueError: the grid does not have as many tokens as the latents, or the tensors differ in length.
    """

    latents: torch.Tensor
    subject_latents: torch.Tensor
    maps: torch.Tensor
    text: torch.Tensor
    grid: tuple[int, int]

    def __post_init__(self) -> None:
        if self.latents.shape[1] != self.grid[0] * self.grid[1]:
            raise ValueError(f"{self.latents.shape[1]} latent tokens do not fill a grid of {self.grid}")
        if not len(self.latents) == len(self.subject_latents) == len(self.maps) == len(self.text):
            raise ValueError("there must be as many subject latents, maps and texts as latents")

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True)
class TextTable:
    """Embeddings of the distinct prompts; row 0 is the empty prompt, which prompt dropout uses.

    Attributes:
        pooled: `[P, D_pooled]`.
        sequence: `[P, L, D_text]`.
    """

    pooled: torch.Tensor
    sequence: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """The samples of one step.

    Attributes:
        latents: `[B, T, D]`.
        subject_latents: `[B, C, h, w]`.
        maps: float `[B, 3, H, W]`, 0..1: mask, depth, Sobel.
        cover: `[B, T]`, share of each token that the product covers.
        pooled: `[B, D_pooled]`.
        sequence: `[B, L, D_text]`.
        grid: token rows and columns.
    """

    latents: torch.Tensor
    subject_latents: torch.Tensor
    maps: torch.Tensor
    cover: torch.Tensor
    pooled: torch.Tensor
    sequence: torch.Tensor
    grid: tuple[int, int]

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "grid"}
        return Batch(**moved, grid=self.grid)


@dataclass(frozen=True)
class CachedDataset:
    """Buckets by size with one text table.

    Attributes:
        buckets: (width, height) in pixels -> samples.
        texts: the prompts' embeddings.
        prompt_dropout: share of samples trained on the empty prompt (for classifier-free guidance).
        token_pixels: side of a token in pixels.
    """

    buckets: Mapping[tuple[int, int], Bucket]
    texts: TextTable
    prompt_dropout: float = 0.1
    token_pixels: int = 16

    def draw(self, batch_size: int, generator: torch.Generator) -> Batch:
        """A random batch of one size; each size is drawn in proportion to its samples."""
        sizes = list(self.buckets)
        shares = torch.tensor([float(len(self.buckets[s])) for s in sizes])
        bucket = self.buckets[sizes[int(torch.multinomial(shares, 1, generator=generator))]]
        chosen = torch.randint(len(bucket), (batch_size,), generator=generator)
        dropped = torch.rand(batch_size, generator=generator) < self.prompt_dropout
        return self._batch(bucket, chosen, torch.where(dropped, 0, bucket.text[chosen]))

    def in_order(self, batch_size: int) -> Sequence[Batch]:
        """Every sample once with its own prompt, for validation."""
        return [
            self._batch(bucket, chosen, bucket.text[chosen])
            for bucket in self.buckets.values()
            for chosen in torch.arange(len(bucket)).split(batch_size)
        ]

    def _batch(self, bucket: Bucket, chosen: torch.Tensor, text: torch.Tensor) -> Batch:
        maps = bucket.maps[chosen].float().div_(255)
        return Batch(
            bucket.latents[chosen].float(),
            bucket.subject_latents[chosen].float(),
            maps,
            token_cover(maps[:, :1], self.token_pixels),
            self.texts.pooled[text].float(),
            self.texts.sequence[text].float(),
            bucket.grid,
        )
