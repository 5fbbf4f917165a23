"""Imports run one way, and the commands that only look start without the machinery that runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent


def _loaded_by(code: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter holds after running `code`."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_import_contracts_hold(capsys: pytest.CaptureFixture[str]) -> None:
    broken = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert not broken, capsys.readouterr().out


@pytest.mark.parametrize("package", ["preprocessing", "pinco.catalog"])
def test_package_starts_without_torch(package: str) -> None:
    walk = (
        f"import importlib, pkgutil, {package} as package\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)"
    )
    assert not _loaded_by(walk) & {"torch", "diffusers", "transformers", "ray", "prefect"}


@pytest.mark.parametrize("command", ["validate", "plan", "replay", "manifest"])
def test_looking_starts_without_ray_and_prefect(command: str) -> None:
    run = (
        "from typer.testing import CliRunner\n"
        "from flows.cli import app\n"
        f"assert CliRunner().invoke(app, ['{command}', '--help']).exit_code == 0"
    )
    assert not _loaded_by(run) & {"ray", "prefect", "torch"}
