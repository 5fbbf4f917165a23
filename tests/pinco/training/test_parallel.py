from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pinco.training.parallel import barrier, data_parallel, joined, rank, share_of, world_size

SCRIPT = Path(__file__).with_name("ranks.py")
ROOT = Path(__file__).parents[3]
Tables = list[dict[str, torch.Tensor]]


def run_ranks(count: int, folder: Path) -> Path:
    """Run real gloo processes; the folder that they write to."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(number), str(count), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        ends = [process.communicate(timeout=300)[1] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0] * count, "\n".join(ends)
    assert "find_unused_parameters" not in "".join(ends)  # DDP's warning about its cost
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_ranks(2, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def tables(out: Path) -> Tables:
    return [load_file(out / f"rank-{number}.safetensors") for number in (0, 1)]


def test_averaged_gradients_equal_one_process_on_the_joined_batch(tables: Tables) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
    batch = torch.randn(14, 5, generator=torch.Generator().manual_seed(0))
    model(batch).square().mean().backward()
    names = [name for name, _ in model.named_parameters()][1:]  # the first is frozen in the ranks
    assert {f"grad/{name}" for name in names} == {k for k in tables[0] if k.startswith("grad/")}
    for name in names:
        assert torch.equal(tables[0][f"grad/{name}"], tables[1][f"grad/{name}"])
        torch.testing.assert_close(tables[0][f"grad/{name}"], model.get_parameter(name).grad)


@pytest.mark.parametrize("count", [1, 4, 7])
def test_shares_join_to_the_whole_on_every_rank(tables: Tables, count: int) -> None:
    whole = torch.arange(count * 3).reshape(count, 3)
    for table in tables:
        assert torch.equal(table[f"joined/{count}"], whole)
    assert torch.equal(torch.cat([table[f"share/{count}"] for table in tables]), whole)
    assert len(tables[0][f"share/{count}"]) == -(-count // 2)


def test_ranks_train_to_the_same_weights_and_one_of_them_writes(out: Path, tables: Tables) -> None:
    trained = [name for name in tables[0] if name.startswith("trained/")]
    assert trained
    for name in trained:
        assert torch.equal(tables[0][name], tables[1][name])
    assert sorted(p.name for p in (out / "run" / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]
    state = json.loads((out / "run" / "checkpoints" / "step-00000004" / "state.json").read_text())
    assert state["ranks"] == 2


def test_checkpoints_name_the_parameters_as_the_task_does(out: Path) -> None:
    names = {f"{layer}.{name}" for layer in (0, 2, 4) for name in ("weight", "bias")} | {"sometimes"}
    folder = out / "run" / "checkpoints" / "step-00000004"
    for file in ("weights", "average"):
        assert set(load_file(folder / f"{file}.safetensors")) == names


def check_resumed(tables: Tables) -> None:
    for table in tables:
        names = [name for name in table if name.startswith("trained/")]
        assert names
        for name in names:
            assert torch.equal(table[name], table[name.replace("trained/", "resumed/")]), name


def test_ranks_that_were_stopped_and_resumed_end_with_the_same_weights(tables: Tables) -> None:
    check_resumed(tables)


@pytest.mark.slow
def test_resume_is_exact_where_the_order_of_a_sum_matters(tmp_path: Path) -> None:
    folder = run_ranks(3, tmp_path)  # a sum of two is the same in either order
    check_resumed([load_file(folder / f"rank-{number}.safetensors") for number in range(3)])


def test_one_process_is_a_world_of_one() -> None:
    assert (rank(), world_size()) == (0, 1)
    barrier()
    assert list(range(5))[share_of(5)] == [0, 1, 2, 3, 4]
    share = torch.ones(5, 2)
    assert joined(share, 5) is share


def test_one_process_computes_its_loss_unwrapped() -> None:
    def loss(x: float) -> float:
        return x

    assert data_parallel(loss, [nn.Parameter(torch.zeros(2))]) is loss
