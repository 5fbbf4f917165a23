"""Scenes to cached training data: latents, text embeddings, and condition maps by the very preprocessing of a real run."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from transformers import CLIPTextModel, PreTrainedTokenizerFast, T5EncoderModel

from pinco.adapter.tokens import pack
from pinco.toy.data import Sets
from pinco.toy.text import embed
from pinco.toy.vae import encode, to_signed
from pinco.training.dataset import Bucket, CachedDataset, TextTable
from preprocessing.canvas import Canvas, Placement, compose
from preprocessing.cutout import Cutout

_CHUNK = 64


def canvas_of(layer: NDArray[np.uint8]) -> Canvas:
    """The canvas of a drawn product: its layer, uint8 `[H, W, 4]`, taken as a photo with its own alpha."""
    cutout = Cutout.from_pixels(np.ascontiguousarray(layer[..., :3]), np.ascontiguousarray(layer[..., 3]))
    return compose(cutout, Placement("original"), (layer.shape[1], layer.shape[0]))


def _canvases(layers: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    cv2.setNumThreads(1)
    made = [canvas_of(layer) for layer in layers]
    return np.stack([c.image for c in made]), np.stack([np.stack([c.alpha, c.depth, c.sobel]) for c in made])


def canvases(layers: NDArray[np.uint8], workers: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Canvases of many layers: images uint8 `[N, H, W, 3]` and maps uint8 `[N, 3, H, W]` (mask, depth, Sobel)."""
    chunks = [layers[i : i + _CHUNK] for i in range(0, len(layers), _CHUNK)]
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_canvases, chunks))
    else:
        parts = [_canvases(chunk) for chunk in chunks]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def encode_images(vae: AutoencoderKL, images: NDArray[np.uint8]) -> torch.Tensor:
    """Latents `[N, 16, h, w]` of uint8 `[N, H, W, 3]`, as the transformer sees them."""
    return torch.cat([encode(vae, to_signed(images[i : i + _CHUNK])) for i in range(0, len(images), _CHUNK)])


def text_table(
    captions: list[str], clip: CLIPTextModel, t5: T5EncoderModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[TextTable, dict[str, int]]:
    """Embeddings of the distinct captions and the row of each; row 0 is the empty prompt."""
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
    *,
    workers: int = 1,
) -> CachedDataset:
    """Everything that is frozen, computed once."""
    table, row = text_table([str(c) for s in sets.values() for c in s.caption], clip, t5, tokenizer)
    buckets = {}
    for (width, height), scenes in sets.items():
        subjects, maps = canvases(scenes.layer, workers)
        buckets[width, height] = Bucket(
            pack(encode_images(vae, scenes.image), 2),
            encode_images(vae, subjects),
            torch.from_numpy(maps),
            torch.tensor([row[str(c)] for c in scenes.caption]),
            (height // 16, width // 16),
        )
    return CachedDataset(buckets, table)
