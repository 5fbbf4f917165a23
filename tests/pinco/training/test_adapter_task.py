from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel

from pinco.adapter.adapter import PincoAdapter
from pinco.toy.model.backbone import predict
from pinco.toy.model.untrained import untrained_parts
from pinco.training.adapter_task import AdapterTask
from pinco.training.checkpoint import complete_checkpoints
from pinco.training.config import TrainingConfig
from pinco.training.dataset import Batch, CachedDataset
from pinco.training.gain import output_gain
from pinco.training.loop import train
from pinco.training.losses import Noised, add_noise, shifted
from pinco.training.validation import VALIDATION_SEED
from tests.pinco.training.conftest import make_cached

Make = Callable[..., CachedDataset]


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    """A random tiny backbone, frozen as a user would hand it over."""
    return untrained_parts(3).transformer.requires_grad_(False)


@pytest.fixture
def adapter(transformer: FluxTransformer2DModel) -> PincoAdapter:
    """A new adapter with closed gates, attached."""
    torch.manual_seed(1)
    return PincoAdapter.for_backbone(transformer, None, shape_channels=8).attach(transformer)


@pytest.fixture
def make(transformer: FluxTransformer2DModel, adapter: PincoAdapter, cached: Make) -> Callable[..., AdapterTask]:
    def velocity(noised: Noised, batch: Batch, extra: Mapping[str, Any]) -> torch.Tensor:
        return predict(transformer, noised, batch, extra)

    def task(**options: float) -> AdapterTask:
        data = cached(count=2, prompt_dropout=0.0)
        return AdapterTask(adapter, velocity, data, data, **options)

    return task


def _settings(steps: int, **changes: float) -> TrainingConfig:
    settings = {"warmup_steps": 2, "ema_decay": 0.5, "checkpoint_every": 1000, "weight_decay": 0.0} | changes
    return TrainingConfig(steps, 4, 2e-2, validate_every=0, **settings)


def test_an_adapter_must_be_attached(adapter: PincoAdapter, cached: Make) -> None:
    adapter.detach()
    with pytest.raises(ValueError, match="attach the adapter"):
        AdapterTask(adapter, lambda noised, batch, extra: noised.target, cached(), cached())


def test_only_the_adapter_changes_and_its_gates_open(
    tmp_path: Path, make: Callable[..., AdapterTask], adapter: PincoAdapter, transformer: FluxTransformer2DModel
) -> None:
    backbone = {name: t.clone() for name, t in transformer.state_dict().items()}
    before = {name: t.clone() for name, t in adapter.state_dict().items()}
    assert all(not g.any() for g in adapter.gates().values())
    train(make(), _settings(6), tmp_path)
    after = transformer.state_dict()
    assert after.keys() == backbone.keys()
    assert all(torch.equal(after[name], backbone[name]) for name in backbone)
    assert all(p.grad is None for p in transformer.parameters())
    assert all(g.abs().min() > 1e-3 for g in adapter.gates().values())
    unmoved = [name for name, t in adapter.state_dict().items() if torch.equal(t, before[name])]
    assert unmoved == []


def test_every_parameter_of_the_adapter_is_trained_once_under_its_own_name(
    make: Callable[..., AdapterTask], adapter: PincoAdapter
) -> None:
    groups = make(gate_lr_scale=7.0).parameter_groups(1e-3)
    named = [pair for group in groups for pair in group["params"]]
    assert dict(named).keys() == dict(adapter.named_parameters()).keys()
    assert all(p is adapter.get_parameter(name) for name, p in named)
    assert len(named) == len(dict(named))
    rates = {name: group["lr"] for group in groups for name, _ in group["params"]}
    assert all(rate == pytest.approx(7e-3 if "gate" in name else 1e-3) for name, rate in rates.items())
    assert any("gate" in name for name in rates)


def test_loss_and_logged_gate_come_from_the_generator_alone(
    make: Callable[..., AdapterTask], adapter: PincoAdapter
) -> None:
    task = make()
    one, details = task.loss(0, 3, torch.Generator().manual_seed(1))
    two, _ = task.loss(5, 3, torch.Generator().manual_seed(1))
    other, _ = task.loss(0, 3, torch.Generator().manual_seed(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert details == {"gate": 0.0}
    with torch.no_grad():
        for gates in (
            g for group in adapter.parameter_groups(1.0) if group["name"] == "gates" for g in group["params"]
        ):
            gates.fill_(0.3)
            gates[::2] = -0.3  # a gate below zero is as open
    assert task.loss(0, 3, torch.Generator().manual_seed(1))[1]["gate"] == pytest.approx(
        float(torch.tensor(0.3).tanh())
    )


def test_subject_weight_moves_the_loss_towards_the_subject(adapter: PincoAdapter, cached: Make) -> None:
    def wrong_on_the_subject(noised: Noised, batch: Batch, extra: Mapping[str, Any]) -> torch.Tensor:
        return noised.target + (batch.cover == 1)[..., None].float()

    def loss(subject_weight: float) -> float:
        data = CachedDataset({(64, 32): cached(grid=(2, 4)).buckets[64, 32]}, cached().texts)
        task = AdapterTask(adapter, wrong_on_the_subject, data, data, subject_weight=subject_weight)
        return task.loss(0, 5, torch.Generator().manual_seed(0))[0].item()

    # 8 tokens: one wholly covered, one by half.
    assert loss(0.0) == pytest.approx(1 / 8, rel=1e-5)
    assert loss(4.0) == pytest.approx(5 / (6 * 1 + 3 + 5), rel=1e-5)


def test_the_shift_of_the_training_moves_its_noise_levels_alone(
    make: Callable[..., AdapterTask], adapter: PincoAdapter, cached: Make
) -> None:
    levels: list[torch.Tensor] = []

    def watch(noised: Noised, batch: Batch, extra: Mapping[str, Any]) -> torch.Tensor:
        levels.append(noised.sigma)
        return noised.target

    def seen(**shifts: float) -> list[list[float]]:
        task = AdapterTask(adapter, watch, cached(), cached(), **shifts)
        levels.clear()
        task.loss(0, 4, torch.Generator().manual_seed(1))
        with contextlib.suppress(KeyError):  # the backbone is not run here, so there is no output to take a gain of
            task.validate()
        return [level.tolist() for level in levels]

    plain, shift_of_training, shift_of_validation = seen(), seen(shift=3.0), seen(validation_shift=3.0)
    assert len(plain) > 2
    torch.testing.assert_close(torch.tensor(shift_of_training[0]), shifted(torch.tensor(plain[0]), 3.0))
    assert shift_of_training[1:] == plain[1:]
    assert shift_of_validation[0] == plain[0]
    for level, before in zip(shift_of_validation[1:], plain[1:], strict=True):  # by region, and for the gain
        torch.testing.assert_close(torch.tensor(level), shifted(torch.tensor(before), 3.0))


def test_the_logged_gain_is_the_mean_over_the_layers(
    make: Callable[..., AdapterTask], adapter: PincoAdapter, transformer: FluxTransformer2DModel
) -> None:
    with torch.no_grad():
        for number in adapter.settings.layers:
            adapter.layer(number).gate.value.fill_(number + 0.5)
    data = make_cached(count=2, prompt_dropout=0.0)
    batch = data.in_order(16)[0]
    noised = add_noise(batch.latents, torch.Generator().manual_seed(VALIDATION_SEED))

    def run() -> None:
        with adapter.using(adapter.encode(batch.subject_latents, batch.maps)) as arguments:
            predict(transformer, noised, batch, arguments)

    gains = output_gain(adapter, run).values()
    assert max(gains) > 1.05 * min(gains)
    assert make().validate()["gain"] == pytest.approx(sum(gains) / len(gains), rel=1e-5)


def test_a_tiny_dataset_is_overfitted(tmp_path: Path, make: Callable[..., AdapterTask]) -> None:
    task = make()
    before = task.validate()
    after = train(task, _settings(60), tmp_path).validation
    assert before.keys() == after.keys() == {"loss", "subject", "background", "boundary", "gain"}
    # Same samples, same noise: only the adapter differs. A random backbone lets no more than this through.
    assert after["loss"] < 0.95 * before["loss"]


def test_a_backbone_in_bfloat16_trains_and_validates_under_autocast(
    tmp_path: Path, make: Callable[..., AdapterTask], transformer: FluxTransformer2DModel, adapter: PincoAdapter
) -> None:
    transformer.to(torch.bfloat16)
    result = train(make(), _settings(2, autocast=True, checkpoint_every=1), tmp_path)
    assert complete_checkpoints(tmp_path / "checkpoints")
    assert all(math.isfinite(value) for value in result.validation.values())
    assert all(parameter.dtype == torch.float32 for parameter in adapter.parameters())


def test_resume_of_an_adapter_is_exact(tmp_path: Path, make: Callable[..., AdapterTask], adapter: PincoAdapter) -> None:
    start = {name: t.clone() for name, t in adapter.state_dict().items()}
    train(make(), _settings(4), tmp_path / "straight")
    straight = {name: t.clone() for name, t in adapter.state_dict().items()}
    adapter.load_state_dict(start)
    train(make(), _settings(4), tmp_path / "twice", stop_after=2)
    adapter.load_state_dict(start)
    train(make(), _settings(4), tmp_path / "twice")
    assert all(torch.equal(t, straight[name]) for name, t in adapter.state_dict().items())


def _seen(
    adapter: PincoAdapter, data: CachedDataset, bias: float, own_mistakes: float, batch_size: int = 6
) -> tuple[Noised, Batch, float]:
    """What the last forward pass of a step sees when the model is off by `bias` everywhere, and that step's loss."""
    calls: list[tuple[Noised, Batch]] = []

    def predict_with_bias(noised: Noised, batch: Batch, extra: Mapping[str, Any]) -> torch.Tensor:
        calls.append((noised, batch))
        return noised.target + bias

    task = AdapterTask(adapter, predict_with_bias, data, data, own_mistakes=own_mistakes)
    loss, _ = task.loss(0, batch_size, torch.Generator().manual_seed(4))
    assert len(calls) == (2 if own_mistakes else 1)
    return *calls[-1], loss.item()


def test_a_model_without_errors_is_trained_as_without_own_mistakes(adapter: PincoAdapter, cached: Make) -> None:
    plain, _, _ = _seen(adapter, cached(), 0.0, 0.0)
    own, _, loss = _seen(adapter, cached(), 0.0, 1.0)
    assert torch.allclose(own.x_t, plain.x_t, atol=1e-5)
    assert loss == 0.0


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_a_share_of_the_samples_starts_from_own_mistakes(adapter: PincoAdapter, cached: Make, share: float) -> None:
    plain, _, _ = _seen(adapter, cached(), 0.5, 0.0, batch_size=400)
    own, batch, _ = _seen(adapter, cached(), 0.5, share, batch_size=400)
    subject = batch.cover > 0.5
    moved = [bool((o - p)[s].any()) for o, p, s in zip(own.target, plain.target, subject, strict=True)]
    assert sum(moved) / len(moved) == pytest.approx(share, abs=0.08)


def test_the_way_back_corrects_at_most_five_times_the_error(adapter: PincoAdapter, cached: Make) -> None:
    """Down to a noise level of 0.2 all of an error is corrected in one step, below that a part of it."""
    plain, _, _ = _seen(adapter, cached(), 0.5, 0.0, batch_size=400)
    own, batch, _ = _seen(adapter, cached(), 0.5, 1.0, batch_size=400)
    assert own.sigma.min() < 0.1 and own.sigma.max() > 0.9
    correction = (own.x_t - plain.x_t) / own.sigma.clamp_min(0.2)[:, None, None]
    subject = batch.cover > 0.5
    torch.testing.assert_close((own.target - plain.target)[subject], correction[subject], atol=1e-4, rtol=1e-4)


def test_own_mistakes_come_from_higher_noise_and_reach_the_same_level(adapter: PincoAdapter, cached: Make) -> None:
    levels: list[torch.Tensor] = []

    def watch(noised: Noised, batch: Batch, extra: Mapping[str, Any]) -> torch.Tensor:
        levels.append(noised.sigma)
        return noised.target

    for share in (0.0, 1.0):
        task = AdapterTask(adapter, watch, cached(), cached(), own_mistakes=share)
        task.loss(0, 200, torch.Generator().manual_seed(4))
    plain, higher, reached = levels
    assert torch.equal(reached, plain)
    way = (higher - reached) / (1 - reached)
    assert bool((way >= -1e-6).all() and (way <= 1 + 1e-6).all())
    assert way.mean().item() == pytest.approx(0.5, abs=0.06)


def test_own_mistakes_replace_the_subject_alone_and_the_target_corrects_them(
    adapter: PincoAdapter, cached: Make
) -> None:
    plain, _, _ = _seen(adapter, cached(), 0.5, 0.0)
    own, batch, _ = _seen(adapter, cached(), 0.5, 1.0)
    subject = batch.cover > 0.5
    assert subject.any() and not subject.all()
    assert torch.equal(own.x_t[~subject], plain.x_t[~subject])
    assert torch.equal(own.target[~subject], plain.target[~subject])
    moved = (own.x_t - plain.x_t)[subject].abs().amax(-1)
    assert (moved > 1e-3).any()
    home = own.x_t - own.sigma[:, None, None] * own.target
    near = own.sigma > 0.2
    assert near.any()
    assert torch.allclose(home[near], batch.latents[near], atol=1e-4)


def test_a_share_beyond_one_is_refused(adapter: PincoAdapter, cached: Make) -> None:
    with pytest.raises(ValueError, match="share between 0 and 1"):
        AdapterTask(adapter, lambda noised, batch, extra: noised.target, cached(), cached(), own_mistakes=1.5)
