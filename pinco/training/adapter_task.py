"""Training of a Pinco adapter on its frozen backbone: the task that the toy and fine-tuning share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

import torch

from pinco.adapter.adapter import PincoAdapter
from pinco.training.dataset import Batch, CachedDataset
from pinco.training.gain import output_gain
from pinco.training.losses import Noised, add_noise, flow_matching_loss
from pinco.training.validation import VALIDATION_SEED, validation_by_region

# Below this noise level only a part of an error is corrected: the velocity for all of it would grow without bound.
SMALLEST_WAY_BACK = 0.2

Predict = Callable[[Noised, Batch, Mapping[str, Any]], torch.Tensor]
"""Noised batch and the arguments by which the backbone sees the subject, to the velocity `[B, N, D]`."""


class AdapterTask:
    """Flow matching with the subject given; only the adapter is trained (`pinco.training.loop.Task`).

    Args:
        adapter: attached to the backbone that `predict` runs.
        predict: runs the backbone, with the arguments that `PincoAdapter.using` yields.
        train: cached samples.
        held_out: cached samples for validation.
        subject_weight: a token wholly covered by the product weighs `1 + subject_weight` in the loss.
        gate_lr_scale: the gates' learning rate over the others'.
        shift: timestep shift of the noise levels in training: that of the backbone's scheduler, or more for higher
            noise.
        validation_shift: timestep shift of the noise levels in validation: always that of the backbone's scheduler, so
            that figures of different trainings can be compared.
        own_mistakes: share of samples whose subject starts from the model's own sampling result instead of the true
            noised latents (see `_continued`), 0..1. 0 is plain flow matching.

    Raises:
        ValueError: the adapter is not attached, or a share is not in 0..1.
    """

    def __init__(
        self,
        adapter: PincoAdapter,
        predict: Predict,
        train: CachedDataset,
        held_out: CachedDataset,
        *,
        subject_weight: float = 4.0,
        gate_lr_scale: float = 10.0,
        shift: float = 1.0,
        validation_shift: float = 1.0,
        own_mistakes: float = 0.0,
    ) -> None:
        if not adapter.attached:
            raise ValueError("attach the adapter to its backbone before training it")
        self.adapter = adapter
        self._predict = predict
        self._train = train
        self._held_out = held_out
        self._subject_weight = subject_weight
        self._gate_lr_scale = gate_lr_scale
        self._shift = shift
        self._validation_shift = validation_shift
        if not 0 <= own_mistakes <= 1:
            raise ValueError(f"own_mistakes is a share between 0 and 1, not {own_mistakes}")
        self._own_mistakes = own_mistakes

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        names = {id(p): name for name, p in self.adapter.named_parameters()}
        groups = self.adapter.parameter_groups(learning_rate, self._gate_lr_scale)
        return [{**group, "params": [(names[id(p)], p) for p in group["params"]]} for group in groups]

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        batch = self._train.draw(batch_size, generator).to(self.adapter.device)
        noised = add_noise(batch.latents, generator, shift=self._shift)
        if self._own_mistakes:
            noised = self._continued(noised, batch, generator)
        weight = 1 + self._subject_weight * batch.cover
        return flow_matching_loss(self._velocity(noised, batch), noised, weight), {"gate": self._mean_gate()}

    @torch.no_grad()
    def _continued(self, noised: Noised, batch: Batch, generator: torch.Generator) -> Noised:
        """Samples as the model's own sampling would have made them, with the velocity to the true subject as target.

        In training the model sees true noised latents, in sampling its own, so that an error made at high noise is
        never corrected (exposure bias; Ning et al. 2023, arXiv 2301.11706). The true subject is known at every step.
        So there the sample is replaced by an Euler step of the model from a higher noise level. The background keeps
        its true latents: any background that fits the prompt is right, not only the sample's own.
        """
        count = len(noised.sigma)
        further, chosen = torch.rand(2, count, generator=generator).to(noised.sigma.device)
        sigma, start = noised.sigma[:, None, None], (noised.sigma + (1 - noised.sigma) * further)[:, None, None]
        noise = noised.target + batch.latents
        higher = Noised((1 - start) * batch.latents + start * noise, noised.target, start.flatten())
        reached = higher.x_t - (start - sigma) * self._velocity(higher, batch).float()
        back = (reached - batch.latents) / sigma.clamp_min(SMALLEST_WAY_BACK)
        true = (noised.x_t - batch.latents) / sigma.clamp_min(SMALLEST_WAY_BACK)
        replaced = (batch.cover > 0.5)[..., None] & (chosen < self._own_mistakes)[:, None, None]
        return Noised(
            torch.where(replaced, reached, noised.x_t),
            torch.where(replaced, noised.target + back - true, noised.target),
            noised.sigma,
        )

    def _velocity(self, noised: Noised, batch: Batch) -> torch.Tensor:
        with self.adapter.using(self.adapter.encode(batch.subject_latents, batch.maps)) as arguments:
            return self._predict(noised, batch, arguments)

    def _mean_gate(self) -> float:
        return float(torch.cat([g.abs().flatten() for g in self.adapter.gates().values()]).mean())

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Validation loss by region, and the mean growth of the attentions' outputs (`gain`)."""
        shift = self._validation_shift
        losses = validation_by_region(self._velocity, self._held_out, shift=shift, device=self.adapter.device)
        batch = self._held_out.in_order(16)[0].to(self.adapter.device)
        noised = add_noise(batch.latents, torch.Generator().manual_seed(VALIDATION_SEED), shift=shift)
        gains = output_gain(self.adapter, lambda: self._velocity(noised, batch))
        return {**losses, "gain": mean(gains.values())}
