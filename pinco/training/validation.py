"""Fixed-seed validation loss, split into subject, background and boundary ring."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch

from pinco.training.dataset import Batch, CachedDataset
from pinco.training.losses import Noised, add_noise, split_by_region

# The same noise and noise levels at every validation of every run: differences are the model's.
VALIDATION_SEED = 7


@torch.no_grad()
def validation_by_region(
    predict: Callable[[Noised, Batch], torch.Tensor],
    held_out: CachedDataset,
    batch_size: int = 64,
    shift: float = 1.0,
    device: torch.device | None = None,
) -> dict[str, float]:
    """Mean square error of the velocity over all held-out samples, each with its own prompt.

    Args:
        predict: noised batch to velocity `[B, N, D]`.
        held_out: samples that training never sees.
        batch_size: affects only speed and memory.
        shift: timestep shift of the backbone's scheduler.
        device: where `predict` computes; the noise is the same on all.

    Returns:
        `loss` over all tokens, and `subject`, `background`, `boundary`.
    """
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    seen = 0
    for cached in held_out.in_order(batch_size):
        noised = _noised(cached.latents, seen, shift).to(device or torch.device("cpu"))
        batch = cached.to(device or torch.device("cpu"))
        seen += len(cached.latents)
        for name, (error, tokens) in split_by_region(predict(noised, batch), noised, batch.cover, batch.grid).items():
            sums[name][0] += error
            sums[name][1] += tokens
    total, count = (sum(s[i] for s in sums.values()) for i in (0, 1))
    return {"loss": total / count, **{name: error / max(tokens, 1.0) for name, (error, tokens) in sums.items()}}


def _noised(latents: torch.Tensor, first: int, shift: float) -> Noised:
    """Noise each sample with a seed of its own, so that the result does not depend on the batch size."""
    parts = [
        add_noise(sample[None], torch.Generator().manual_seed(VALIDATION_SEED + 1_000_003 * (first + i)), shift=shift)
        for i, sample in enumerate(latents)
    ]
    return Noised(*(torch.cat([getattr(part, name) for part in parts]) for name in ("x_t", "target", "sigma")))
