"""Exponential moving average of trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Ema:
    """Averaged copies of named parameters, float32.

    After `step` updates the decay is `min(decay, (1 + step) / (10 + step))`, so that early averages forget the start.
    """

    def __init__(self, parameters: dict[str, torch.nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self.average = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self._parameters.values()], weight)

    def load(self, average: dict[str, torch.Tensor]) -> None:
        for name, tensor in average.items():
            self.average[name].copy_(tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model holds the averaged weights; afterwards its own again, bit for bit."""
        own = {name: p.detach().clone() for name, p in self._parameters.items()}
        try:
            self._write(self.average)
            yield
        finally:
            self._write(own)

    def keep(self) -> None:
        """Leave the averaged weights in the model."""
        self._write(self.average)

    @torch.no_grad()
    def _write(self, values: dict[str, torch.Tensor]) -> None:
        for name, p in self._parameters.items():
            p.copy_(values[name])
