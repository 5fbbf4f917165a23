"""Checkpoints in safetensors and JSON (never pickle), each either complete or absent."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pinco.catalog.store.local import sync
from pinco.errors import PincoError

_NAME = re.compile(r"^step-(\d{8})$")
_STATE = "state.json"


class CheckpointMismatchError(PincoError, ValueError):
    """A checkpoint belongs to another run: its settings or its tensors differ from those of the run to resume."""

    code = "checkpoint_mismatch"


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, dict[str, torch.Tensor]], state: dict[str, Any], keep: int = 2
) -> Path:
    """Write `folder/step-<eight digits>` atomically.

    The files are written and synced in a hidden folder beside it, which is then renamed: after a crash at any moment
    the checkpoint is either complete or absent. Older checkpoints are removed afterwards.

    Args:
        folder: the folder of the run's checkpoints.
        step: finished steps.
        tensors: file stem -> name -> tensor, one safetensors file each.
        state: values that JSON can hold; `step` and the list of files are added.
        keep: how many checkpoints are kept.

    Returns:
        The checkpoint's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:08d}"
    partial = folder / f".partial-{step:08d}-{os.getpid()}"
    for leftover in folder.glob(".partial-*"):  # of a process that was killed while writing
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    for stem, named in tensors.items():
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in named.items()}, partial / f"{stem}.safetensors")
    (partial / _STATE).write_text(json.dumps({**state, "step": step, "files": sorted(tensors)}, indent=1))
    for file in partial.iterdir():
        sync(file)
    sync(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    sync(folder)
    for old in sorted(complete_checkpoints(folder))[:-keep]:
        shutil.rmtree(folder / f"step-{old:08d}")
    return final


def complete_checkpoints(folder: Path) -> list[int]:
    """Steps of the checkpoints in `folder`, unsorted; incomplete ones have another name and are not listed."""
    if not folder.is_dir():
        return []
    return [int(m.group(1)) for p in folder.iterdir() if (m := _NAME.match(p.name)) and (p / _STATE).is_file()]


def load_latest(folder: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]] | None:
    """The newest complete checkpoint as (tensors, state), or None where there is none."""
    steps = complete_checkpoints(folder)
    if not steps:
        return None
    path = folder / f"step-{max(steps):08d}"
    state: dict[str, Any] = json.loads((path / _STATE).read_text())
    return {stem: load_file(path / f"{stem}.safetensors") for stem in state["files"]}, state


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state as flat tensors, named `parameter index / entry`."""
    state = optimizer.state_dict()["state"]
    return {f"{i}/{k}": torch.as_tensor(v) for i, entries in state.items() for k, v in entries.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `optimizer_tensors`; the groups (learning rates) of the optimiser do not change.

    Raises:
        CheckpointMismatchError: the tensors are those of other parameters.
    """
    whole = optimizer.state_dict()
    count = sum(len(group["params"]) for group in whole["param_groups"])
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, entry = name.split("/")
        state.setdefault(int(index), {})[entry] = tensor
    if state and max(state) >= count:
        raise CheckpointMismatchError(
            f"the checkpoint's optimiser has {max(state) + 1} parameters, this model has {count}"
        )
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
