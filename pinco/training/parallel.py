"""Data parallelism in three functions, over `torch.distributed` where it has been initialised, else for one process.

On a CPU, ranks of one thread each are faster than one process of several threads: they meet once a step instead of in
every operation, which on busy cores is the difference.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist


def rank() -> int:
    """This process's number; 0 is the one that logs, validates and writes checkpoints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over the ranks, in one message."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch._utils._flatten_dense_tensors(gradients)
    dist.all_reduce(flat)
    flat /= world_size()
    for gradient, mean in zip(gradients, torch._utils._unflatten_dense_tensors(flat, gradients), strict=True):
        gradient.copy_(mean)


def share_of(count: int) -> slice:
    """The rows of a table of `count` rows that this rank computes; `joined` puts the shares together again."""
    each = -(-count // world_size())
    return slice(rank() * each, min(count, (rank() + 1) * each))


def joined(share: torch.Tensor, count: int) -> torch.Tensor:
    """All ranks' shares of a table of `count` rows, in order, on every rank."""
    if world_size() == 1:
        return share
    each = -(-count // world_size())
    padded = share.new_zeros((each, *share.shape[1:]))
    padded[: len(share)] = share
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return torch.cat(parts)[:count]
