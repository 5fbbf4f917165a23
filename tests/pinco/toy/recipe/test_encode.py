from __future__ import annotations

import numpy as np
import pytest
import torch

from pinco.adapter.tokens import pack
from pinco.pipelines.pipeline import PincoPipeline
from pinco.toy.drawing.data import Sets
from pinco.toy.model.assemble import DEFAULTS, ToyParts
from pinco.toy.model.text import embed
from pinco.toy.recipe.encode import canvas_of, canvases, encode_images, encode_scenes, text_table
from pinco.training.dataset import CachedDataset
from preprocessing.canvas import Placement, compose
from preprocessing.cutout import Cutout
from preprocessing.sobel import sobel


@pytest.fixture
def cached(parts: ToyParts, sets: Sets) -> CachedDataset:
    return encode_scenes(sets, parts.vae, parts.clip, parts.t5, parts.tokenizer)


def test_buckets_have_the_shapes_of_their_sizes(cached: CachedDataset, sets: Sets) -> None:
    assert list(cached.buckets) == list(sets)
    for (width, height), bucket in cached.buckets.items():
        count = len(sets[width, height])
        assert bucket.grid == (height // 16, width // 16)
        assert bucket.latents.shape == (count, (height // 16) * (width // 16), 64)
        assert bucket.subject_latents.shape == (count, 16, height // 8, width // 8)
        assert bucket.maps.shape == (count, 3, height, width)
        assert bucket.maps.dtype == torch.uint8


def test_maps_are_those_of_a_real_run(cached: CachedDataset, sets: Sets) -> None:
    for size, scenes in sets.items():
        for layer, maps in zip(scenes.layer, cached.buckets[size].maps, strict=True):
            cutout = Cutout.from_pixels(layer[..., :3].copy(), layer[..., 3].copy())
            canvas = compose(cutout, Placement("original"), size)
            assert np.array_equal(maps[0], canvas.alpha)
            assert np.array_equal(maps[1], canvas.depth)
            assert np.array_equal(maps[2], canvas.sobel)
            assert np.array_equal(canvas.alpha, layer[..., 3])  # placed where it was drawn, to the pixel
            assert canvas.depth.max() > 200
            assert np.array_equal(canvas.sobel, np.rint(sobel(cutout.rgb, cutout.alpha) * 255))


def test_the_canvas_shows_the_product_alone(sets: Sets) -> None:
    layers = sets[160, 96].layer
    images, maps = canvases(layers)
    assert images.shape == (2, 96, 160, 3)
    assert maps.shape == (2, 3, 96, 160)
    opaque, clear = layers[..., 3] == 255, layers[..., 3] == 0
    assert np.array_equal(images[opaque], layers[opaque][:, :3])
    assert (images[clear] == 128).all()


def test_latents_are_those_that_the_pipeline_encodes(cached: CachedDataset, parts: ToyParts, sets: Sets) -> None:
    pipeline = PincoPipeline(parts.pipeline(), None, DEFAULTS)
    for size, scenes in sets.items():
        clean = pipeline.encode_canvas(canvas_of(scenes.layer[1])).clean
        torch.testing.assert_close(pack(cached.buckets[size].subject_latents[1:2], 2), clean, rtol=1e-3, atol=1e-3)
        whole = pack(encode_images(parts.vae, scenes.image[1:2]), 2)
        torch.testing.assert_close(cached.buckets[size].latents[1:2], whole, rtol=1e-3, atol=1e-3)


def test_texts_are_the_captions_of_their_scenes(cached: CachedDataset, parts: ToyParts, sets: Sets) -> None:
    for size, scenes in sets.items():
        rows = cached.buckets[size].text
        pooled, sequence = embed(parts.clip, parts.t5, parts.tokenizer, [str(c) for c in scenes.caption])
        torch.testing.assert_close(cached.texts.pooled[rows], pooled, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(cached.texts.sequence[rows], sequence, rtol=1e-4, atol=1e-4)
        assert bool((rows > 0).all())


def test_the_text_table_begins_with_the_empty_prompt_and_holds_each_once(parts: ToyParts) -> None:
    table, row = text_table(["on sand", "", "on snow", "on sand"], parts.clip, parts.t5, parts.tokenizer)
    assert row == {"": 0, "on sand": 1, "on snow": 2}
    assert len(table.pooled) == len(table.sequence) == 3
    empty = embed(parts.clip, parts.t5, parts.tokenizer, [""])[0]
    torch.testing.assert_close(table.pooled[:1], empty, rtol=1e-4, atol=1e-4)
