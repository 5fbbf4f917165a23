from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pinco.training.dataset import Batch, CachedDataset
from pinco.training.losses import Noised
from pinco.training.validation import validation_by_region

Make = Callable[..., CachedDataset]


def _nothing(noised: Noised, batch: Batch) -> torch.Tensor:
    return torch.zeros_like(noised.target)


def test_the_same_noise_at_every_validation(cached: Make) -> None:
    data = cached()
    first = validation_by_region(_nothing, data)
    torch.manual_seed(123)  # global chance has no say
    torch.rand(10)
    assert validation_by_region(_nothing, data) == first


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batch_size_changes_nothing(cached: Make, size: int) -> None:
    whole = validation_by_region(_nothing, cached())
    assert validation_by_region(_nothing, cached(), batch_size=size) == pytest.approx(whole, rel=1e-4)


def test_a_perfect_prediction_has_no_error_anywhere(cached: Make) -> None:
    figures = validation_by_region(lambda noised, _: noised.target, cached())
    assert figures == {"loss": 0, "subject": 0, "boundary": 0, "background": 0}


def test_an_error_counts_in_its_region(cached: Make) -> None:
    def wrong_on_the_subject(noised: Noised, batch: Batch) -> torch.Tensor:
        return noised.target + 2 * (batch.cover > 0.9)[..., None]

    figures = validation_by_region(wrong_on_the_subject, cached(grid=(2, 4)))
    assert figures["subject"] == pytest.approx(4, rel=1e-5)
    assert figures["boundary"] == figures["background"] == 0
    # 6 samples with 1 wholly covered token of 8, and 2 with 3 of 8 in the turned size.
    assert figures["loss"] == pytest.approx(4 * (6 * 1 + 2 * 3) / 64, rel=1e-5)


def test_prompts_are_never_dropped(cached: Make) -> None:
    seen: list[float] = []

    def watch(noised: Noised, batch: Batch) -> torch.Tensor:
        seen.extend(batch.pooled[:, 0].tolist())
        return noised.target

    validation_by_region(watch, cached(prompt_dropout=1.0))
    assert 0.0 not in seen
    assert len(seen) == 8


def test_shift_moves_the_noise_levels(cached: Make) -> None:
    def level(shift: float) -> float:
        levels: list[torch.Tensor] = []

        def watch(noised: Noised, batch: Batch) -> torch.Tensor:
            levels.append(noised.sigma)
            return noised.target

        validation_by_region(watch, cached(), shift=shift)
        return float(torch.cat(levels).mean())

    assert level(4.0) > level(1.0) + 0.1


def test_no_gradient_is_kept(cached: Make) -> None:
    weight = torch.ones((), requires_grad=True)

    def predict(noised: Noised, batch: Batch) -> torch.Tensor:
        made = noised.target * weight
        assert not made.requires_grad
        return made

    validation_by_region(predict, cached())
