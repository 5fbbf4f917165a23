from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from flows.cli import app

WORDS = {
    "demo": ["--out", "--products", "--seed"],
    "validate": ["SHEET", "--catalog", "--json"],
    "plan": ["SHEET", "--catalog", "--store"],
    "run": ["SHEET", "--catalog", "--store", "--backbone", "--adapter", "--limit", "--only", "--s3-endpoint"],
    "manifest show": ["STORE"],
    "manifest export": ["STORE", "OUT.parquet"],
    "replay": ["STORE", "GENERATION_ID", "--out"],
    "retry": ["STORE", "RUN"],
    "adapter init": ["--backbone", "--layers", "--rank", "--out", "--dry-run"],
    "adapter info": ["DIR"],
    "toy train": ["--out", "--seed"],
}


@pytest.mark.parametrize("command", WORDS)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"], terminal_width=120)
    assert result.exit_code == 0
    for word in WORDS[command]:
        assert word in result.output


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from flows.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print(sorted({'ray', 'prefect', 'torch', 'diffusers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_libraries_do_not_tell_who_runs_a_command_what_they_lack() -> None:
    program = "import flows.cli\nfrom transformers import CLIPImageProcessor"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and "torchvision" not in done.stderr, done.stderr


def test_the_version_is_printed() -> None:
    from importlib.metadata import version

    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output.strip()) == (0, f"pinco {version('pinco')}")
