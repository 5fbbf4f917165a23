"""The training loop: a task says what is trained; resume, average, schedule and log are the same for all tasks."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from pinco.training.checkpoint import (
    CheckpointMismatchError,
    load_latest,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from pinco.training.config import TrainingConfig
from pinco.training.ema import Ema
from pinco.training.parallel import barrier, data_parallel, rank, world_size


class Task(Protocol):
    """What is trained, and on what."""

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Optimiser groups: `params` (named pairs `(name, parameter)`) and `lr`."""
        ...

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of one step, and values to log. All randomness comes from `generator`.

        Args:
            step: 0-based.
            batch_size: samples of this rank.
            generator: on the CPU.
        """
        ...

    def validate(self) -> dict[str, float]:
        """Validation figures of the current weights, with a fixed seed."""
        ...


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        steps: finished steps.
        seconds: of training in all sessions together, validation included.
        validation: the last validation figures, of the averaged weights.
        resumed_from: the step this session began at.
    """

    steps: int
    seconds: float
    validation: dict[str, float]
    resumed_from: int


def step_generator(seed: int, step: int, of_rank: int = 0) -> torch.Generator:
    """The only source of randomness of one step. It does not depend on earlier steps, so resume needs no RNG state."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step + of_rank * 7_919_000_017) & 0x7FFF_FFFF_FFFF_FFFF)


def load_finished(model: torch.nn.Module, config: TrainingConfig, folder: Path) -> bool:
    """Load the averaged weights of a finished run into a model. This needs no task, and so no data.

    Args:
        model: has the parameters that were trained, under the same names.
        config: settings of the run.
        folder: of the run.

    Returns:
        False where there is no finished run with these settings and parameters.
    """
    found = load_latest(folder / "checkpoints")
    if found is None or found[1]["config"] != config.as_dict() or found[1]["step"] < config.steps:
        return False
    own = dict(model.named_parameters())
    if set(own) != set(found[0]["average"]):
        return False
    with torch.no_grad():
        for name, p in own.items():
            p.copy_(found[0]["average"][name])
    return True


def train(task: Task, config: TrainingConfig, folder: Path, *, stop_after: int | None = None) -> TrainingResult:
    """Train `task` up to `config.steps`, from the newest complete checkpoint in `folder` if there is one.

    A run that was stopped at any moment and started again ends with the same weights, bit for bit, as one that ran
    through, on the same machine type, thread count and number of ranks. On return the task's parameters hold the
    averaged weights. Where `torch.distributed` is initialised, every rank calls this with the same task and settings;
    `config.batch_size` is the sum over the ranks, and each draws its own share.

    Args:
        task: what to train.
        config: how.
        folder: holds `checkpoints/` and `log.jsonl`.
        stop_after: end with a checkpoint after this step, for sessions of limited time.

    Raises:
        CheckpointMismatchError: the checkpoint there was made with other settings or another number of ranks.
        ValueError: the batch cannot be shared evenly among the ranks.
        FloatingPointError: the loss is no longer finite; the newest checkpoint is from before.
    """
    if config.batch_size % world_size():
        raise ValueError(f"a batch of {config.batch_size} cannot be shared evenly among {world_size()} ranks")
    share, leads = config.batch_size // world_size(), rank() == 0
    groups = task.parameter_groups(config.learning_rate)
    named = {name: p for group in groups for name, p in group["params"]}
    peaks = [group["lr"] for group in groups]
    optimizer = torch.optim.AdamW(
        [{**group, "params": [p for _, p in group["params"]]} for group in groups],
        betas=(0.9, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )
    ema = Ema(named, config.ema_decay)
    start, spent = _resume(folder, config, named, ema, optimizer)
    compute_loss = data_parallel(task.loss, named.values())
    log = _Log(folder / "log.jsonl", start) if leads else None
    validation: dict[str, float] = {}
    began, last_log, since_log = time.monotonic(), time.monotonic(), 0
    end = min(config.steps, stop_after or config.steps)
    for step in range(start, end):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * config.learning_rate_at(step)
        device = next(iter(named.values())).device.type
        with torch.autocast(device, torch.bfloat16, enabled=config.autocast):
            loss, details = compute_loss(step, share, step_generator(config.seed, step, rank()))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss at step {step} is {loss.item()}; lower the learning rate and start again in a new folder"
            )
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(named.values(), config.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update()
        done, since_log = step + 1, since_log + 1
        if log and (done % config.log_every == 0 or done == end):
            now = time.monotonic()
            rate = config.batch_size * since_log / (now - last_log)
            log.write(
                {
                    "step": done,
                    "loss": loss.item(),
                    "gradient_norm": float(norm),
                    "samples_per_second": round(rate, 2),
                    "seconds": round(spent + now - began, 1),
                    **details,
                }
            )
            last_log, since_log = now, 0
        if log and (done == end or (config.validate_every and done % config.validate_every == 0)):
            with ema.applied(), torch.autocast(device, torch.bfloat16, enabled=config.autocast):
                validation = task.validate()
            log.write({"step": done, **{f"validation/{k}": v for k, v in validation.items()}})
        if leads and (done == end or done % config.checkpoint_every == 0):
            tensors = {"weights": dict(named), "average": ema.average, "optimizer": optimizer_tensors(optimizer)}
            state = {**_identity(config), "seconds": spent + time.monotonic() - began, "validation": validation}
            save_checkpoint(folder / "checkpoints", done, {k: dict(v) for k, v in tensors.items()}, state)
    barrier()
    if start >= config.steps and (found := load_latest(folder / "checkpoints")):
        validation = found[1]["validation"]
    ema.keep()
    return TrainingResult(max(start, end), spent + time.monotonic() - began, validation, start)


def check_resumable(folder: Path, config: TrainingConfig, ranks: int) -> None:
    """Check, before any process is started, that a run in `folder` can go on; one that is not there can.

    Args:
        folder: Of the run.
        config: Its settings.
        ranks: Processes that are to train it.

    Raises:
        CheckpointMismatchError: The checkpoint there was made with other settings or another number of ranks.
    """
    found = load_latest(folder / "checkpoints")
    if found is not None:
        _refuse_another_run(folder, config, ranks, found[1])


def _refuse_another_run(folder: Path, config: TrainingConfig, ranks: int, state: dict[str, Any]) -> None:
    now, then = {**config.as_dict(), "ranks": ranks}, {**state["config"], "ranks": state["ranks"]}
    if state["step"] >= config.steps:  # no batches are left to draw, so the number of ranks has no influence
        then["ranks"] = ranks
    if now != then:
        differing = ", ".join(k for k, v in now.items() if then.get(k) != v)
        raise CheckpointMismatchError(
            f"{folder} holds a run with another {differing}; resume with the same settings or use a new folder"
        )


def _identity(config: TrainingConfig) -> dict[str, Any]:
    """What must be the same for a resume to be exact."""
    return {"config": config.as_dict(), "ranks": world_size()}


def _resume(
    folder: Path,
    config: TrainingConfig,
    named: dict[str, torch.nn.Parameter],
    ema: Ema,
    optimizer: torch.optim.Optimizer,
) -> tuple[int, float]:
    """Restore the newest checkpoint.

    Returns:
        Finished steps, and seconds spent so far.
    """
    found = load_latest(folder / "checkpoints")
    if found is None:
        return 0, 0.0
    tensors, state = found
    _refuse_another_run(folder, config, world_size(), state)
    if set(tensors["weights"]) != set(named):
        raise CheckpointMismatchError(f"{folder} holds a run of another model; use a new folder")
    with torch.no_grad():
        for name, p in named.items():
            p.copy_(tensors["weights"][name])
    ema.load(tensors["average"], state["step"])
    restore_optimizer(optimizer, tensors["optimizer"])
    return int(state["step"]), float(state["seconds"])


class _Log:
    """Appends JSON lines; lines of an interrupted session after its last checkpoint are removed first."""

    def __init__(self, file: Path, start: int) -> None:
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = file.read_text().splitlines() if file.exists() else []
        kept = [line for line in lines if _step_of(line) <= start]
        file.write_text("".join(line + "\n" for line in kept))

    def write(self, record: dict[str, Any]) -> None:
        with self._file.open("a") as out:
            out.write(json.dumps(record) + "\n")


def _step_of(line: str) -> float:
    """Step of a log line; infinite for an incomplete line after a crash, so that it is removed."""
    try:
        return float(json.loads(line)["step"])
    except json.JSONDecodeError:
        return float("inf")
