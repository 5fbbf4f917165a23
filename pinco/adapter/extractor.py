"""The semantic-shape decoupled extractor, `F = MLP([E(I), Conv([m, d, s])])`.

Pinco, section 3.1 (arXiv 2412.03812). The paper gives no sizes; all sizes, the layer norms on the shape features and on
F, and the start from the backbone's patch embedder are this project's.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pinco.adapter.config import PincoConfig
from pinco.adapter.tokens import pack

MAPS = ("mask", "depth", "sobel")
"""Order of the three shape maps `[m, d, s]` along their channel axis."""

SHAPE_START = 0.1
"""Size of the shape branch relative to the semantic one where the extractor starts from the backbone."""


class ShapeConv(nn.Module):
    """Shape maps `[B, 3, H, W]` to features `[B, N, C]` on the token grid; each convolution halves the resolution."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        halvings = stride.bit_length() - 1
        widths = [3, *(max(channels >> (halvings - 1 - i), 16) for i in range(halvings - 1)), channels]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1) for before, after in pairwise(widths)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve; the last layer has no activation, because a layer norm follows."""
        x = maps
        for number, layer in enumerate(self.layers):
            x = layer(x if number == 0 else F.silu(x))
        return x.flatten(2).transpose(1, 2)


class SubjectExtractor(nn.Module):
    """Makes one subject token `F` per latent token from the subject's latents and its shape maps."""

    chosen_maps: Tensor

    def __init__(self, config: PincoConfig) -> None:
        super().__init__()
        dims = config.backbone
        self.patch_size = dims.patch_size
        self.semantic = config.semantic
        self.shape = config.shape
        self.semantic_channels = dims.token_channels if config.semantic == "vae" else 0
        shape_channels = {"conv": config.shape_channels, "vae": dims.token_channels, "none": 0}[config.shape]
        self.shape_conv = ShapeConv(shape_channels, dims.token_stride) if config.shape == "conv" else None
        self.shape_norm = nn.LayerNorm(shape_channels) if shape_channels else None
        width = 2 * config.subject_dim
        self.input = nn.Linear(self.semantic_channels + shape_channels, width)
        self.output = nn.Linear(width, config.subject_dim)
        self.norm = nn.LayerNorm(config.subject_dim, eps=1e-6)
        chosen = [float(use) for use in (config.use_mask, config.use_depth, config.use_sobel)]
        self.register_buffer("chosen_maps", torch.tensor(chosen).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, subject_latents: Tensor, maps: Tensor, shape_latents: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Make the subject tokens.

        Args:
            subject_latents: `[B, C, h, w]`.
            maps: `[B, 3, H, W]` in 0..1: mask, depth, Sobel.
            shape_latents: `[B, C, h, w]`, instead of the maps where the configuration says `shape="vae"`: the VAE's
                latents of `shape_image(maps)`.

        Returns:
            F, `[B, N, D_sub]`, and each token's standard deviation before its norm, `[B, N, 1]`: what is added to F in
            the scale of the backbone's embedded patches is to be divided by it.

        Raises:
            ValueError: `shape_latents` is missing where it is needed.
        """
        branches = []
        if self.semantic == "vae":
            branches.append(pack(subject_latents, self.patch_size))
        if self.shape_norm is not None:
            if self.shape_conv is not None:
                features = self.shape_conv(maps * self.chosen_maps)
            elif shape_latents is None:
                raise ValueError("this adapter encodes its shape maps with the VAE: pass shape_latents")
            else:
                features = pack(shape_latents, self.patch_size)
            branches.append(self.shape_norm(features))
        embedded: Tensor = self.output(F.gelu(self.input(torch.cat(branches, dim=-1))))
        spread = (embedded.var(dim=-1, keepdim=True, correction=0) + self.norm.eps).sqrt()
        return self.norm(embedded), spread

    def shape_image(self, maps: Tensor) -> Tensor:
        """The chosen maps as an RGB image in -1..1, `[B, 3, H, W]`: what the VAE encodes where `shape="vae"`."""
        return (maps * self.chosen_maps) * 2 - 1

    @torch.no_grad()
    def start_from_embedder(self, weight: Tensor, bias: Tensor | None) -> None:
        """Make the semantic branch pass through exactly as the backbone's patch embedder would map it.

        The hidden layer is `[E x, -E x]`, the output `[1, -1]`: because `gelu(z) - gelu(-z) = z`, the MLP then computes
        `E x`, and F starts as the layer norm of what the frozen blocks see of a clean image token. The shape features
        come in with a small random share. Call it only if there is a semantic branch and `subject_dim` is the
        backbone's width.

        Args:
            weight: `[D, C p p]`.
            bias: `[D]`.
        """
        dim = weight.shape[0]
        weight = weight.to(self.input.weight)
        start = torch.zeros_like(self.input.weight)
        start[:dim, : self.semantic_channels] = weight
        start[dim:, : self.semantic_channels] = -weight
        shape = start[:, self.semantic_channels :]
        if shape.shape[1]:
            shape.normal_(std=SHAPE_START * float(weight.square().sum() / dim / shape.shape[1]) ** 0.5)
        self.input.weight.copy_(start)
        offset = weight.new_zeros(dim) if bias is None else bias.to(weight)
        self.input.bias.copy_(torch.cat((offset, -offset)))
        one = torch.eye(dim, dtype=weight.dtype, device=weight.device)
        self.output.weight.copy_(torch.cat((one, -one), dim=1))
        self.output.bias.zero_()
