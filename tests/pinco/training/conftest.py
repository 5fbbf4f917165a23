"""A task so small that whole runs take milliseconds, and cached data with the layout of the toy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pinco.training.config import TrainingConfig
from pinco.training.dataset import Bucket, CachedDataset, TextTable


class LineTask:
    """Fit `y = 3 x - 1` from noisy points; all chance from the generator, as `pinco.training.loop.Task` asks."""

    def __init__(self, *, spoil_at: int | None = None) -> None:
        torch.manual_seed(11)
        self.model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.spoil_at = spoil_at
        self.steps_seen: list[int] = []
        self.batch_sizes: list[int] = []

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        first, last = self.model[0], self.model[2]
        return [
            {"params": list(first.named_parameters("first")), "lr": learning_rate},
            {"params": list(last.named_parameters("last")), "lr": 3 * learning_rate, "weight_decay": 0.0},
        ]

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        self.steps_seen.append(step)
        self.batch_sizes.append(batch_size)
        x = torch.randn(batch_size, 1, generator=generator)
        y = 3 * x - 1 + 0.1 * torch.randn(batch_size, 1, generator=generator)
        loss = (self.model(x) - y).square().mean()
        return loss * (float("nan") if step == self.spoil_at else 1), {"first_x": float(x[0])}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        x = torch.linspace(-1, 1, 9)[:, None]
        return {"error": float((self.model(x) - (3 * x - 1)).square().mean())}


@pytest.fixture
def make_task() -> Callable[..., LineTask]:
    return LineTask


@pytest.fixture
def make_config() -> Callable[..., TrainingConfig]:
    """Settings of a run of 12 steps."""

    def make(**changes: Any) -> TrainingConfig:
        settings = {"steps": 12, "batch_size": 4, "learning_rate": 0.02, "warmup_steps": 3, "ema_decay": 0.9}
        settings |= {"checkpoint_every": 5, "validate_every": 4, "log_every": 2, "seed": 3}
        return TrainingConfig(**(settings | changes))

    return make


def make_cached(count: int = 6, grid: tuple[int, int] = (2, 3), width: int = 96, **options: Any) -> CachedDataset:
    """Random samples in two sizes: `count` of `grid` tokens, and 2 of the grid turned. Row p of the texts is all p."""
    generator = torch.Generator().manual_seed(21)

    def bucket(number: int, rows: int, columns: int) -> Bucket:
        maps = torch.zeros(number, 3, rows * 16, columns * 16, dtype=torch.uint8)
        maps[:, :, : rows * 16 - 8, :16] = 255
        return Bucket(
            torch.randn(number, rows * columns, 64, generator=generator),
            torch.randn(number, 16, rows * 2, columns * 2, generator=generator),
            maps,
            torch.arange(number) % 3 + 1,
            (rows, columns),
        )

    rows, columns = grid
    levels = torch.arange(4.0)
    texts = TextTable(levels[:, None].repeat(1, width), levels[:, None, None].repeat(1, 5, width))
    buckets = {
        (columns * 16, rows * 16): bucket(count, rows, columns),
        (rows * 16, columns * 16): bucket(2, columns, rows),
    }
    return CachedDataset(buckets, texts, **options)


@pytest.fixture
def cached() -> Callable[..., CachedDataset]:
    return make_cached
