"""Exponential moving average of trained weights: diffusers' `EMAModel`, kept in float32 and resumed exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel


class Ema:
    """Averages of named parameters, in float32 whatever the parameters' own type is.

    The update after `step` (0-based) keeps `d` of the average and takes `1 - d` of the weights, with
    `d = min(decay, (1 + step) / (10 + step))`; `EMAModel` takes `d = 0` at step 0, so that the weights from before the
    training never enter the average.

    Args:
        parameters: the trained parameters by name; frozen ones among them are copied instead of averaged.
        decay: upper limit of `d`, 0..1.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], decay: float) -> None:
        self._parameters = dict(parameters)
        self._model = EMAModel(self._parameters.values(), decay=decay, foreach=True)
        self._model.to(dtype=torch.float32)  # in bfloat16 an update by a thousandth would be rounded away

    @property
    def average(self) -> dict[str, torch.Tensor]:
        """The averages by name, float32; not copies."""
        return dict(zip(self._parameters, self._model.shadow_params, strict=True))

    def update(self) -> None:
        """Update the averages with the current parameters."""
        self._model.step(self._parameters.values())

    def load(self, average: Mapping[str, torch.Tensor], updates: int) -> None:
        """Restore a checkpoint.

        Args:
            average: the averages by name.
            updates: how many updates they are the result of.
        """
        for name, tensor in self.average.items():
            tensor.copy_(average[name])
        self._model.optimization_step = updates

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model holds the averaged weights; afterwards its own again, bit for bit."""
        self._model.store(self._parameters.values())
        try:
            self.keep()
            yield
        finally:
            self._model.restore(self._parameters.values())

    def keep(self) -> None:
        """Leave the averaged weights in the model."""
        self._model.copy_to(self._parameters.values())
