"""Data parallelism over `torch.distributed` where it has been initialised, else for one process.

On a CPU, ranks of one thread each are faster than one process of several threads: they wait for each other once a step
instead of in every operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_P = ParamSpec("_P")
_R = TypeVar("_R")


def rank() -> int:
    """This process's number; 0 is the one that logs, validates and writes checkpoints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together; 1 where `torch.distributed` is not initialised."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()


def data_parallel(loss: Callable[_P, _R], trained: Iterable[nn.Parameter]) -> Callable[_P, _R]:
    """The same function, after whose `backward` the gradients of `trained` are their means over the ranks.

    `DistributedDataParallel` wraps a module that holds only the trained parameters and whose forward pass is `loss`.
    So it sees nothing of a frozen backbone, and no parameter gets another name. A single process is not wrapped.

    Args:
        loss: computes a loss from the parameters, on this rank's share of the batch.
        trained: the same parameters in the same order on every rank; those that do not require a gradient are left
            alone, and those that no rank's loss depends on keep a gradient of None.
    """
    if world_size() == 1:
        return loss
    # With unused parameters allowed, gradients keep the message layout of the first step; otherwise it is rearranged
    # after that, the ranks' sums are rounded in another order, and a resumed run is no longer exact.
    wrapped: Callable[_P, _R] = DistributedDataParallel(_Loss(loss, trained), find_unused_parameters=True)
    return wrapped


class _Loss(nn.Module, Generic[_P, _R]):
    """A loss as a module with the parameters that it trains."""

    def __init__(self, loss: Callable[_P, _R], trained: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.trained = nn.ParameterList(trained)
        # DDP warns about cost where unused parameters are allowed and there are none; here they are allowed for the
        # sake of exact resume (see `data_parallel`).
        self.unused = nn.Parameter(torch.zeros(()))
        self._loss = loss

    def forward(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self._loss(*args, **kwargs)


def share_of(count: int) -> slice:
    """The rows of a table of `count` rows that this rank computes; `joined` puts the shares together again."""
    each = -(-count // world_size())
    return slice(rank() * each, min(count, (rank() + 1) * each))


def joined(share: torch.Tensor, count: int) -> torch.Tensor:
    """All ranks' shares of a table of `count` rows, in order, on every rank.

    Args:
        share: `[n, ...]`, the rows `share_of(count)`.
        count: rows of the whole table.

    Returns:
        `[count, ...]`.
    """
    if world_size() == 1:
        return share
    each = -(-count // world_size())
    padded = share.new_zeros((each, *share.shape[1:]))
    padded[: len(share)] = share
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return torch.cat(parts)[:count]
