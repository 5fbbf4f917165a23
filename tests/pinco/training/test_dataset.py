from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from pinco.training.dataset import Bucket, CachedDataset

Make = Callable[..., CachedDataset]


def _draw_texts(data: CachedDataset, draws: int, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.cat([data.draw(size, generator).pooled[:, 0] for _ in range(draws)])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_prompts_are_dropped_in_their_share(cached: Make, share: float) -> None:
    texts = _draw_texts(cached(prompt_dropout=share), 80)
    assert (texts == 0).float().mean().item() == pytest.approx(share, abs=0.03)


def test_both_encoders_drop_the_same_samples(cached: Make) -> None:
    batch = cached(prompt_dropout=0.5).draw(40, torch.Generator().manual_seed(1))
    assert torch.equal(batch.pooled[:, 0] == 0, (batch.sequence == 0).all((1, 2)))


def test_a_draw_depends_on_its_generator_alone(cached: Make) -> None:
    data = cached()
    one, two, other = (data.draw(8, torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    for name in ("latents", "subject_latents", "maps", "cover", "pooled", "sequence"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert one.grid == two.grid
    assert one.latents.shape != other.latents.shape or not torch.equal(one.latents, other.latents)


def test_sizes_are_drawn_in_proportion_to_their_samples(cached: Make) -> None:
    data, generator = cached(count=6), torch.Generator().manual_seed(2)
    grids = [data.draw(1, generator).grid for _ in range(600)]
    assert grids.count((2, 3)) / 600 == pytest.approx(6 / 8, abs=0.05)
    assert set(grids) == {(2, 3), (3, 2)}


def test_rows_of_a_batch_belong_together(cached: Make) -> None:
    data = cached(prompt_dropout=0.0)
    batch = data.draw(20, torch.Generator().manual_seed(3))
    bucket = data.buckets[batch.grid[1] * 16, batch.grid[0] * 16]
    for i in range(20):
        row = next(r for r in range(len(bucket)) if torch.equal(bucket.latents[r], batch.latents[i]))
        assert torch.equal(batch.subject_latents[i], bucket.subject_latents[row])
        assert torch.equal(batch.maps[i], bucket.maps[row] / 255)
        assert batch.pooled[i, 0] == bucket.text[row]


def test_shapes_and_cover_of_a_batch(cached: Make) -> None:
    batch = cached().draw(5, torch.Generator().manual_seed(4))
    rows, columns = batch.grid
    assert batch.latents.shape == (5, 6, 64)
    assert batch.subject_latents.shape == (5, 16, rows * 2, columns * 2)
    assert batch.maps.shape == (5, 3, rows * 16, columns * 16)
    assert (batch.maps.min(), batch.maps.max()) == (0, 1)
    # The maps of the fixture cover the left column of tokens, its last one by half.
    expected = torch.zeros(rows, columns)
    expected[:, 0] = 1
    expected[-1, 0] = 0.5
    assert torch.equal(batch.cover, expected.flatten().expand(5, -1))


def test_half_precision_tables_give_float32_batches(cached: Make) -> None:
    data = cached()
    halves = {
        size: replace(b, latents=b.latents.half(), subject_latents=b.subject_latents.half())
        for size, b in data.buckets.items()
    }
    batch = replace(data, buckets=halves).draw(3, torch.Generator().manual_seed(0))
    assert {batch.latents.dtype, batch.subject_latents.dtype, batch.maps.dtype, batch.pooled.dtype} == {torch.float32}


def test_a_batch_moves_as_a_whole(cached: Make) -> None:
    batch = cached().draw(2, torch.Generator().manual_seed(0))
    moved = batch.to(torch.device("meta"))
    assert moved.grid == batch.grid
    for name in ("latents", "subject_latents", "maps", "cover", "pooled", "sequence"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(moved, name).shape == getattr(batch, name).shape
        assert torch.equal(getattr(batch.to(torch.device("cpu")), name), getattr(batch, name))


@pytest.mark.parametrize("size", [1, 4, 100])
def test_in_order_shows_every_sample_once_with_its_own_prompt(cached: Make, size: int) -> None:
    data = cached(prompt_dropout=1.0)
    batches = data.in_order(size)
    assert all(len(b.latents) <= size for b in batches)
    for grid, bucket in (((2, 3), data.buckets[48, 32]), ((3, 2), data.buckets[32, 48])):
        mine = [b for b in batches if b.grid == grid]
        assert torch.equal(torch.cat([b.latents for b in mine]), bucket.latents)
        assert torch.equal(torch.cat([b.pooled[:, 0] for b in mine]), bucket.text.float())


def test_a_grid_that_the_tokens_do_not_fill_is_refused(cached: Make) -> None:
    bucket = next(iter(cached().buckets.values()))
    with pytest.raises(ValueError, match=r"6 latent tokens do not fill a grid of \(2, 4\)"):
        replace(bucket, grid=(2, 4))


@pytest.mark.parametrize("name", ["latents", "subject_latents", "maps", "text"])
def test_tables_of_different_length_are_refused(cached: Make, name: str) -> None:
    bucket: Bucket = next(iter(cached().buckets.values()))
    with pytest.raises(ValueError, match="as many subject latents"):
        replace(bucket, **{name: getattr(bucket, name)[1:]})
