from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pinco.training import loop
from pinco.training.checkpoint import CheckpointMismatchError, complete_checkpoints, load_latest
from pinco.training.config import TrainingConfig
from pinco.training.loop import check_resumable, load_finished, step_generator, train

Make = Callable[..., Any]


def _records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _same_checkpoints(one: Path, other: Path) -> None:
    first, second = load_latest(one / "checkpoints"), load_latest(other / "checkpoints")
    assert first is not None
    assert second is not None
    assert first[0].keys() == second[0].keys() == {"weights", "average", "optimizer"}
    for stem, named in first[0].items():
        assert named.keys() == second[0][stem].keys()
        assert named
        for name, tensor in named.items():
            assert torch.equal(tensor, second[0][stem][name]), (stem, name)
    assert {**first[1], "seconds": 0} == {**second[1], "seconds": 0}


@pytest.mark.parametrize("stop", [1, 5, 7, 11])
def test_stopped_and_resumed_equals_straight_through_bit_for_bit(
    tmp_path: Path, make_task: Make, make_config: Make, stop: int
) -> None:
    straight, halted, resumed = make_task(), make_task(), make_task()
    whole = train(straight, make_config(), tmp_path / "straight")
    first = train(halted, make_config(), tmp_path / "twice", stop_after=stop)
    second = train(resumed, make_config(), tmp_path / "twice")

    assert (first.steps, first.resumed_from) == (stop, 0)
    assert (second.steps, second.resumed_from) == (12, stop)
    assert resumed.steps_seen == list(range(stop, 12))
    for p, q in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert whole.validation == second.validation
    _same_checkpoints(tmp_path / "straight", tmp_path / "twice")


def test_steps_lost_in_a_crash_are_repeated_bit_for_bit(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    train(make_task(), make_config(), tmp_path / "straight")
    crashing = make_task()
    real = crashing.loss

    def loss(step: int, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        if step == 8:  # checkpoints lie at 5 and 10
            raise KeyboardInterrupt
        return real(step, batch_size, generator)

    crashing.loss = loss
    with pytest.raises(KeyboardInterrupt):
        train(crashing, make_config(), tmp_path / "crashed")
    assert [r["step"] for r in _records(tmp_path / "crashed")][-1] == 8
    resumed = make_task()
    assert train(resumed, make_config(), tmp_path / "crashed").resumed_from == 5
    _same_checkpoints(tmp_path / "straight", tmp_path / "crashed")

    # What was logged past the checkpoint is replaced, not doubled.
    def without_times(folder: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in r.items() if k not in ("seconds", "samples_per_second")} for r in _records(folder)]

    assert without_times(tmp_path / "crashed") == without_times(tmp_path / "straight")


def test_an_incomplete_last_log_line_does_not_prevent_a_resume(
    tmp_path: Path, make_task: Make, make_config: Make
) -> None:
    train(make_task(), make_config(), tmp_path, stop_after=5)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "lo')  # the machine went down while this was written
    train(make_task(), make_config(), tmp_path)
    assert [r["step"] for r in _records(tmp_path)][-1] == 12


def test_a_finished_run_trains_no_step_and_returns_its_figures(
    tmp_path: Path, make_task: Make, make_config: Make
) -> None:
    first = make_task()
    ended = train(first, make_config(), tmp_path)
    log = (tmp_path / "log.jsonl").read_text()
    again = make_task()
    result = train(again, make_config(), tmp_path)
    assert again.steps_seen == []
    assert (result.steps, result.resumed_from) == (12, 12)
    assert result.validation == ended.validation != {}
    assert (tmp_path / "log.jsonl").read_text() == log
    for p, q in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(p, q)


class Named(torch.nn.Module):
    """The task's network under the names that its optimiser groups give."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.first, self.last = task.model[0], task.model[2]

    def named_parameters(self, *args: Any, **options: Any) -> Any:
        yield from self.first.named_parameters("first")
        yield from self.last.named_parameters("last")


def test_a_finished_run_is_loaded_without_its_task(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    done = make_task()
    train(done, make_config(), tmp_path)
    fresh = make_task()
    assert load_finished(Named(fresh), make_config(), tmp_path)
    for p, q in zip(done.model.parameters(), fresh.model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert fresh.steps_seen == []


def test_unfinished_and_other_runs_are_not_loaded(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    train(make_task(), make_config(), tmp_path / "half", stop_after=5)
    train(make_task(), make_config(), tmp_path / "done")
    fresh = make_task()
    before = [p.clone() for p in fresh.model.parameters()]
    assert not load_finished(Named(fresh), make_config(), tmp_path / "half")
    assert not load_finished(Named(fresh), make_config(), tmp_path / "absent")
    assert not load_finished(Named(fresh), make_config(seed=9), tmp_path / "done")
    assert not load_finished(fresh.model, make_config(), tmp_path / "done")  # parameters of other names
    assert all(torch.equal(p, q) for p, q in zip(before, fresh.model.parameters(), strict=True))


def test_the_task_ends_with_the_averaged_weights(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    task = make_task()
    train(task, make_config(), tmp_path)
    found = load_latest(tmp_path / "checkpoints")
    assert found is not None
    held = {**dict(task.model[0].named_parameters("first")), **dict(task.model[2].named_parameters("last"))}
    for name, p in held.items():
        assert torch.equal(p, found[0]["average"][name])
    assert not torch.equal(found[0]["average"]["first.weight"], found[0]["weights"]["first.weight"])


def test_validation_uses_the_averaged_weights(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    task = make_task()
    result = train(task, make_config(), tmp_path)
    assert result.validation == task.validate()  # the task holds the average now
    assert _records(tmp_path)[-1] == {"step": 12, "validation/error": result.validation["error"]}


def test_it_learns(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    task = make_task()
    before = task.validate()["error"]
    result = train(task, make_config(steps=150, batch_size=16, validate_every=0, checkpoint_every=150), tmp_path)
    assert result.validation["error"] < before / 20


def test_the_weights_are_those_of_clipped_adamw_written_out(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    """Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, on gradients clipped to a global norm."""
    config = make_config(steps=6, weight_decay=0.5, beta2=0.8, max_gradient_norm=0.3)
    train(make_task(), config, tmp_path)
    found = load_latest(tmp_path / "checkpoints")
    assert found is not None

    twin = make_task()
    groups = twin.parameter_groups(config.learning_rate)
    named = {name: (p, g["lr"], g.get("weight_decay", 0.5)) for g in groups for name, p in g["params"]}
    first, second = ({name: torch.zeros_like(p) for name, (p, _, _) in named.items()} for _ in range(2))
    average = {name: torch.zeros_like(p) for name, (p, _, _) in named.items()}
    norms = []
    for step in range(6):
        kept = min(config.ema_decay, (1 + step) / (10 + step)) if step else 0.0
        loss, _ = twin.loss(step, config.batch_size, step_generator(config.seed, step))
        gradients = torch.autograd.grad(loss, [p for p, _, _ in named.values()])
        norms.append(float(torch.stack([g.square().sum() for g in gradients]).sum().sqrt()))
        clip = min(1.0, 0.3 / (norms[-1] + 1e-6))
        for (name, (p, peak, decay)), gradient in zip(named.items(), gradients, strict=True):
            rate, g = peak * config.learning_rate_at(step), gradient * clip
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.8 * second[name] + 0.2 * g.square()
            with torch.no_grad():
                p.mul_(1 - rate * decay)
                corrected = (second[name] / (1 - 0.8 ** (step + 1))).sqrt() + 1e-8
                p.sub_(rate * first[name] / (1 - 0.9 ** (step + 1)) / corrected)
                average[name] = kept * average[name] + (1 - kept) * p  # of the weights after the step
    assert min(norms) > 0.3 and max(norms) > 1.2 * min(norms)  # Adam would not notice a constant factor
    for name, (p, _, _) in named.items():
        torch.testing.assert_close(found[0]["weights"][name], p.detach(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[0]["average"][name], average[name], atol=1e-5, rtol=1e-5)


def test_checkpoints_and_log_are_written_at_their_steps(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    train(make_task(), make_config(), tmp_path)
    assert sorted(complete_checkpoints(tmp_path / "checkpoints")) == [10, 12]
    records = _records(tmp_path)
    assert [r["step"] for r in records if "loss" in r] == [2, 4, 6, 8, 10, 12]
    assert [r["step"] for r in records if "validation/error" in r] == [4, 8, 12]
    assert {"gradient_norm", "samples_per_second", "seconds", "first_x"} <= records[0].keys()


def test_groups_keep_their_ratio_of_learning_rates_along_the_schedule(
    tmp_path: Path, make_task: Make, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[list[float]] = []

    class Watched(torch.optim.AdamW):
        def step(self, closure: Any = None) -> None:
            rates.append([g["lr"] for g in self.param_groups])
            super().step(closure)

    monkeypatch.setattr(loop.torch.optim, "AdamW", Watched)
    config: TrainingConfig = make_config()
    train(make_task(), config, tmp_path)
    expected = [0.02 * config.learning_rate_at(step) for step in range(12)]
    assert [r[0] for r in rates] == pytest.approx(expected)
    assert [r[1] for r in rates] == pytest.approx([3 * lr for lr in expected])


@pytest.mark.parametrize(
    ("change", "named"),
    [({"learning_rate": 0.5}, "learning_rate"), ({"seed": 4}, "seed"), ({"steps": 20}, "steps")],
)
def test_resume_with_other_settings_is_refused_by_name(
    tmp_path: Path, make_task: Make, make_config: Make, change: dict[str, Any], named: str
) -> None:
    train(make_task(), make_config(), tmp_path, stop_after=5)
    with pytest.raises(CheckpointMismatchError, match=rf"another {named};.*new folder"):
        train(make_task(), make_config(**change), tmp_path)


def test_resume_with_another_number_of_ranks_is_refused_unless_finished(
    tmp_path: Path, make_task: Make, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_task(), make_config(), tmp_path / "half", stop_after=5)
    train(make_task(), make_config(), tmp_path / "done")
    monkeypatch.setattr(loop, "world_size", lambda: 2)
    with pytest.raises(CheckpointMismatchError, match="another ranks"):
        train(make_task(), make_config(), tmp_path / "half")
    assert train(make_task(), make_config(), tmp_path / "done").steps == 12


def test_every_rank_draws_its_own_samples(
    tmp_path: Path, make_task: Make, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task()
    loss, seeds = task.loss, []
    task.loss = lambda step, count, generator: (seeds.append(generator.initial_seed()), loss(step, count, generator))[1]
    monkeypatch.setattr(loop, "rank", lambda: 1)
    train(task, make_config(steps=3), tmp_path)
    assert seeds == [step_generator(3, step, 1).initial_seed() for step in range(3)]


def test_whether_a_run_can_go_on_is_known_before_it_starts(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    train(make_task(), make_config(), tmp_path / "half", stop_after=5)
    train(make_task(), make_config(), tmp_path / "done")
    check_resumable(tmp_path / "nothing", make_config(), 1)
    check_resumable(tmp_path / "half", make_config(), 1)
    check_resumable(tmp_path / "done", make_config(), 2)
    for folder, config, ranks, named in (
        ("half", make_config(), 2, "ranks"),
        ("half", make_config(seed=4), 1, "seed"),
        ("done", make_config(steps=20), 1, "steps"),
    ):
        with pytest.raises(CheckpointMismatchError, match=f"{folder} holds a run with another {named};"):
            check_resumable(tmp_path / folder, config, ranks)


def test_resume_of_another_model_is_refused(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    train(make_task(), make_config(), tmp_path, stop_after=5)
    other = make_task()
    other.parameter_groups = lambda lr: [{"params": list(other.model.named_parameters()), "lr": lr}]
    with pytest.raises(CheckpointMismatchError, match="another model"):
        train(other, make_config(), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    tmp_path: Path, make_task: Make, make_config: Make
) -> None:
    task = make_task(spoil_at=7)
    with pytest.raises(FloatingPointError, match="the loss at step 7 is nan"):
        train(task, make_config(), tmp_path)
    assert all(p.isfinite().all() for p in task.model.parameters())
    assert complete_checkpoints(tmp_path / "checkpoints") == [5]


def test_a_loss_that_is_not_finite_names_a_way_out_that_the_trainer_accepts(
    tmp_path: Path, make_task: Make, make_config: Make
) -> None:
    with pytest.raises(FloatingPointError, match="new folder"):  # another learning rate is refused in this one
        train(make_task(spoil_at=7), make_config(), tmp_path)


def test_a_batch_that_cannot_be_shared_is_refused(
    tmp_path: Path, make_task: Make, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "world_size", lambda: 3)
    with pytest.raises(ValueError, match="a batch of 4 cannot be shared evenly among 3 ranks"):
        train(make_task(), make_config(), tmp_path)


def test_autocast_trains_float32_weights(tmp_path: Path, make_task: Make, make_config: Make) -> None:
    task, plain = make_task(), make_task()
    train(task, make_config(autocast=True), tmp_path / "autocast")
    train(plain, make_config(), tmp_path / "plain")
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in task.model.parameters())
    assert not torch.equal(task.model[0].weight, plain.model[0].weight)


@pytest.mark.parametrize("autocast", [False, True])
def test_validation_computes_as_the_loss_does(
    tmp_path: Path, make_task: Make, make_config: Make, autocast: bool
) -> None:
    task = make_task()
    validate, seen = task.validate, []
    task.validate = lambda: (seen.append(torch.is_autocast_enabled("cpu")), validate())[1]
    train(task, make_config(autocast=autocast), tmp_path)
    assert seen == [autocast] * 3


def test_each_step_of_each_rank_of_each_seed_has_its_own_random_numbers() -> None:
    drawn = {
        float(torch.rand((), generator=step_generator(seed, step, of_rank), dtype=torch.float64))
        for seed in (0, 1, 2)
        for step in range(50)
        for of_rank in (0, 1)
    }
    assert len(drawn) == 3 * 50 * 2
    assert torch.equal(
        torch.rand(3, generator=step_generator(1, 2, 1)), torch.rand(3, generator=step_generator(1, 2, 1))
    )
    assert math.isfinite(float(torch.rand((), generator=step_generator(10**9, 10**9, 10**6))))
