"""Scenes to cached training data: latents, text embeddings, and condition maps by the preprocessing of a run."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from transformers import CLIPTextModel, PreTrainedTokenizerFast, T5EncoderModel

from pinco.adapter.tokens import pack
from pinco.toy.drawing.data import Sets
from pinco.toy.model.text import embed
from pinco.toy.model.vae import encode, to_signed
from pinco.training.dataset import Bucket, CachedDataset, TextTable
from pinco.training.parallel import joined, share_of
from preprocessing.canvas import Canvas, Placement, compose
from preprocessing.cutout import Cutout

_CHUNK = 64


def canvas_of(layer: NDArray[np.uint8]) -> Canvas:
    """The canvas of a drawn product: its layer, uint8 `[H, W, 4]`, taken as a photo with its own alpha."""
    cutout = Cutout.from_pixels(np.ascontiguousarray(layer[..., :3]), np.ascontiguousarray(layer[..., 3]))
    return compose(cutout, Placement("original"), (layer.shape[1], layer.shape[0]))


def canvases(layers: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Canvases of many layers: images uint8 `[N, H, W, 3]` and maps uint8 `[N, 3, H, W]` (mask, depth, Sobel)."""
    made = [canvas_of(layer) for layer in layers]
    return np.stack([c.image for c in made]), np.stack([np.stack([c.alpha, c.depth, c.sobel]) for c in made])


def encode_images(vae: AutoencoderKL, images: NDArray[np.uint8]) -> torch.Tensor:
    """Latents `[N, 16, h, w]` of uint8 `[N, H, W, 3]`, as the transformer sees them."""
    return torch.cat([encode(vae, to_signed(images[i : i + _CHUNK])).cpu() for i in range(0, len(images), _CHUNK)])


def text_table(
    captions: list[str], clip: CLIPTextModel, t5: T5EncoderModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[TextTable, dict[str, int]]:
    """Embed the distinct captions.

    Args:
        captions: with repeats.
        clip: text encoder of the pooled embedding.
        t5: text encoder of the sequence.
        tokenizer: of both.

    Returns:
        The embeddings, and the row of each caption; row 0 is the empty prompt.
    """
    distinct = ["", *sorted(set(captions) - {""})]
    parts = [embed(clip, t5, tokenizer, distinct[i : i + 256]) for i in range(0, len(distinct), 256)]
    table = TextTable(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))
    return table, {text: row for row, text in enumerate(distinct)}


def encode_scenes(
    sets: Sets,
    vae: AutoencoderKL,
    clip: CLIPTextModel,
    t5: T5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
) -> CachedDataset:
    """Compute latents, maps and text embeddings of all scenes. Ranks share the work, and each gets the whole result.

    Args:
        sets: scenes by size.
        vae: encodes scenes and subjects.
        clip: text encoder of the pooled embedding.
        t5: text encoder of the sequence.
        tokenizer: of both.
    """
    table, row = text_table([str(c) for s in sets.values() for c in s.caption], clip, t5, tokenizer)
    buckets = {}
    for (width, height), scenes in sets.items():
        mine = share_of(len(scenes))
        subjects, maps = canvases(scenes.layer[mine])
        latents = pack(encode_images(vae, scenes.image[mine]), 2)
        buckets[width, height] = Bucket(
            joined(latents, len(scenes)),
            joined(encode_images(vae, subjects), len(scenes)),
            joined(torch.from_numpy(maps), len(scenes)),
            torch.tensor([row[str(c)] for c in scenes.caption]),
            (height // 16, width // 16),
        )
    return CachedDataset(buckets, table)
