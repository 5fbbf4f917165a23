from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pinco.training import checkpoint
from pinco.training.checkpoint import (
    CheckpointMismatchError,
    complete_checkpoints,
    load_latest,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)


def _save(folder: Path, step: int, keep: int = 2) -> Path:
    return save_checkpoint(
        folder, step, {"weights": {"w": torch.full((2, 3), float(step))}, "optimizer": {}}, {"note": f"at {step}"}, keep
    )


def test_saved_checkpoints_are_loaded_unchanged(tmp_path: Path) -> None:
    transposed = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    tensors = {"weights": {"a": transposed, "b": torch.tensor(3, dtype=torch.int64)}, "average": {"a": transposed * 2}}
    save_checkpoint(tmp_path, 7, tensors, {"config": {"steps": 9}})
    found = load_latest(tmp_path)
    assert found is not None
    loaded, state = found
    assert state == {"config": {"steps": 9}, "step": 7, "files": ["average", "weights"]}
    assert loaded.keys() == tensors.keys()
    for stem, named in tensors.items():
        for name, tensor in named.items():
            assert loaded[stem][name].dtype == tensor.dtype
            assert torch.equal(loaded[stem][name], tensor)


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    shared = torch.ones(3)
    save_checkpoint(tmp_path, 1, {"weights": {"a": shared, "b": shared}}, {})
    found = load_latest(tmp_path)
    assert found is not None
    assert torch.equal(found[0]["weights"]["a"], found[0]["weights"]["b"])


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "absent") is None
    assert load_latest(tmp_path) is None
    assert complete_checkpoints(tmp_path / "absent") == []


def test_the_newest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        _save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000015", "step-00000020"]
    found = load_latest(tmp_path)
    assert found is not None
    assert found[1]["note"] == "at 20"
    assert found[0]["weights"]["w"].eq(20).all()


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    _save(tmp_path, 5)
    save_checkpoint(tmp_path, 5, {"weights": {"w": torch.zeros(1)}}, {"note": "again"})
    found = load_latest(tmp_path)
    assert found is not None
    assert found[1]["note"] == "again"
    assert list(found[0]) == ["weights"]


@pytest.mark.parametrize("crash_at", ["first tensors", "second tensors", "sync", "move"])
def test_a_crash_at_any_moment_leaves_the_older_checkpoint_whole(
    tmp_path: Path, crash_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(tmp_path, 5)

    class Crash(BaseException):
        """Like a kill: no `except Exception` may tidy up after it."""

    with monkeypatch.context() as patch:
        if crash_at.endswith("tensors"):
            written, real, last = [], checkpoint.save_file, 1 if crash_at.startswith("first") else 2

            def save_file(tensors: dict[str, torch.Tensor], path: Path) -> None:
                written.append(path)
                if len(written) == last:
                    path.write_bytes(b"half")
                    raise Crash
                real(tensors, path)

            patch.setattr(checkpoint, "save_file", save_file)
        elif crash_at == "sync":
            patch.setattr(checkpoint, "sync", lambda path: (_ for _ in ()).throw(Crash))
        else:
            patch.setattr(Path, "rename", lambda self, target: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            _save(tmp_path, 10)
    assert complete_checkpoints(tmp_path) == [5]
    found = load_latest(tmp_path)
    assert found is not None
    assert found[0]["weights"]["w"].eq(5).all()
    _save(tmp_path, 10)  # the next session writes the same step without stumbling over what was left
    assert sorted(complete_checkpoints(tmp_path)) == [5, 10]


def test_a_crash_before_old_ones_are_removed_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path, 5, keep=1)
    real = shutil.rmtree

    def rmtree(path: Path, ignore_errors: bool = False) -> None:
        if path.name == "step-00000005":
            raise OSError("the disk is gone")
        real(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(checkpoint.shutil, "rmtree", rmtree)
    with pytest.raises(OSError, match="gone"):
        _save(tmp_path, 10, keep=1)
    assert sorted(complete_checkpoints(tmp_path)) == [5, 10]


def test_folders_of_another_name_or_without_state_are_ignored(tmp_path: Path) -> None:
    _save(tmp_path, 5)
    (tmp_path / "step-00000099").mkdir()  # no state.json: not complete
    (tmp_path / ".partial-00000098-1").mkdir()
    (tmp_path / ".partial-00000098-1" / "state.json").write_text("{}")
    (tmp_path / "step-97").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert complete_checkpoints(tmp_path) == [5]


def _trained(steps: int) -> tuple[torch.nn.Linear, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    _go_on(model, optimizer, range(steps))
    return model, optimizer


def _go_on(model: torch.nn.Linear, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        model(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_restored_optimizer_continues_bit_for_bit(tmp_path: Path) -> None:
    straight, its_optimizer = _trained(3)
    save_checkpoint(tmp_path, 3, {"optimizer": optimizer_tensors(its_optimizer)}, {})
    weights = {k: v.clone() for k, v in straight.state_dict().items()}
    _go_on(straight, its_optimizer, range(3, 6))

    resumed, fresh = _trained(0)
    resumed.load_state_dict(weights)
    found = load_latest(tmp_path)
    assert found is not None
    restore_optimizer(fresh, found[0]["optimizer"])
    _go_on(resumed, fresh, range(3, 6))
    assert torch.equal(resumed.weight, straight.weight)
    assert torch.equal(resumed.bias, straight.bias)
    first, second = optimizer_tensors(its_optimizer), optimizer_tensors(fresh)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_restoring_keeps_the_current_learning_rate() -> None:
    _, old = _trained(2)
    model = torch.nn.Linear(3, 2)
    now = torch.optim.AdamW(model.parameters(), lr=0.5)
    restore_optimizer(now, optimizer_tensors(old))
    assert now.param_groups[0]["lr"] == 0.5


def test_an_optimizer_of_more_parameters_is_refused() -> None:
    _, old = _trained(1)
    fewer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2, 3))])
    with pytest.raises(CheckpointMismatchError, match="has 2 parameters, this model has 1"):
        restore_optimizer(fewer, optimizer_tensors(old))
