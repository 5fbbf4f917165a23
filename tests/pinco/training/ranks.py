"""One of several gloo ranks, run as a script by `test_parallel`: `ranks.py RANK RANKS OUT`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from pinco.training.config import TrainingConfig
from pinco.training.loop import train
from pinco.training.parallel import barrier, data_parallel, joined, rank, share_of, world_size

ROWS = 7


def table() -> tuple[torch.Tensor, nn.Module]:
    """The joined batch and the model: the same in every process."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(1)
    return torch.randn(2 * ROWS, 5, generator=generator), nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))


class MeanTask:
    """A task whose chance differs by rank, with a frozen backbone and a parameter that only some steps use."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        layers = nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
        self.model = nn.Sequential(*layers)
        self.backbone = nn.Linear(5, 5).requires_grad_(False)
        self.sometimes = nn.Parameter(torch.ones(()))

    def named(self) -> list[tuple[str, nn.Parameter]]:
        return [*self.model.named_parameters(), ("sometimes", self.sometimes)]

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": self.named(), "lr": learning_rate}]

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        assert batch_size == 3
        x = self.backbone(torch.randn(batch_size, 5, generator=generator))
        factor = self.sometimes if step % 2 else 1.0
        return (factor * self.model(x)).square().mean(), {"x": float(x[0, 0])}

    def validate(self) -> dict[str, float]:
        assert rank() == 0, "only the leading rank validates"
        return {}


def train_twice(out: Path) -> dict[str, torch.Tensor]:
    """Train straight through, and once more with a stop in between; the trained parameters of both."""
    config = TrainingConfig(4, 3 * world_size(), 1e-2, checkpoint_every=2, warmup_steps=1)
    straight, resumed = MeanTask(), MeanTask()
    train(straight, config, out / "run")
    train(MeanTask(), config, out / "stopped", stop_after=1)
    train(resumed, config, out / "stopped")
    return {f"trained/{name}": p for name, p in straight.named()} | {f"resumed/{n}": p for n, p in resumed.named()}


def share_work(number: int) -> dict[str, torch.Tensor]:
    """Gradients of a loss, and shares of tables, on one of two ranks."""
    batch, model = table()
    frozen = next(model.parameters()).requires_grad_(False)
    unused = nn.Parameter(torch.zeros(3))
    compute = data_parallel(lambda rows: model(rows).square().mean(), [*model.parameters(), unused])
    compute(batch[number * ROWS : (number + 1) * ROWS]).backward()
    assert frozen.grad is None
    assert unused.grad is None
    results = {f"grad/{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    for count in (1, 4, ROWS):  # fewer rows than ranks, an even and an odd number
        mine = torch.arange(count * 3).reshape(count, 3)[share_of(count)]
        results[f"joined/{count}"] = joined(mine, count)
        results[f"share/{count}"] = mine
    barrier()
    return results


def main(number: int, ranks: int, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out / 'rendezvous'}", rank=number, world_size=ranks)
    assert (rank(), world_size()) == (number, ranks)
    results = {**(share_work(number) if ranks == 2 else {}), **train_twice(out)}
    save_file({k: v.detach().contiguous() for k, v in results.items()}, out / f"rank-{number}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
