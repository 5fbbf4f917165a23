"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one run. Everything is counted in steps, so that a slow machine makes the same model as a fast one.

    Attributes:
        steps: optimiser steps in all.
        batch_size: samples a step.
        learning_rate: peak, after warm-up; groups of a task may scale it.
        warmup_steps: linear rise from zero.
        final_learning_rate: share of the peak that the cosine ends on.
        weight_decay: decoupled (AdamW).
        beta2: second-moment decay of AdamW.
        max_gradient_norm: gradients are clipped to this global norm.
        ema_decay: decay of the averaged weights, reached gradually: 0 at step 0, then
            `min(ema_decay, (1 + step) / (10 + step))`.
        seed: decides, with the step's number alone, all randomness of a step; this makes resume exact.
        checkpoint_every: steps.
        validate_every: steps; 0 validates at the end only.
        log_every: steps.
        autocast: compute loss and validation under bfloat16 autocast; weights and optimiser stay as they are.

    Raises:
        ValueError: a count is below 1, or the decay is not in [0, 1).
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    final_learning_rate: float = 0.02
    weight_decay: float = 0.01
    beta2: float = 0.99
    max_gradient_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    checkpoint_every: int = 500
    validate_every: int = 500
    log_every: int = 50
    autocast: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), not {self.ema_decay}")

    def learning_rate_at(self, step: int) -> float:
        """Share of the peak learning rate at `step` (0-based): linear warm-up, then a cosine to the final share."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.final_learning_rate + (1 - self.final_learning_rate) * cosine

    def as_dict(self) -> dict[str, Any]:
        """All settings by name, as checkpoints keep them."""
        return asdict(self)
