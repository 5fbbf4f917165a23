"""Imports run one way, and the commands that only look start without the machinery that runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports
from PIL import Image

ROOT = Path(__file__).parent.parent


def _loaded_by(code: str, folder: Path = ROOT) -> set[str]:
    """Top-level names of all modules that a fresh interpreter holds after running `code`."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, cwd=folder)
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


LOOKING = {
    "validate": (["validate", "sheet.csv", "--catalog", "photos"], 0),
    "plan": (["plan", "sheet.csv", "--catalog", "photos", "--store", "store"], 0),
    "manifest": (["manifest", "show", "store"], 1),  # there is no store yet, and it says so
    "replay": (["replay", "store", "0123abcd", "--out", "again.png"], 1),  # there is no such image, and it says so
}


@pytest.mark.parametrize("command", LOOKING)
def test_looking_loads_neither_ray_nor_prefect_nor_torch(command: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64), "white").save(tmp_path / "photos" / "MUG-1.png")
    (tmp_path / "sheet.csv").write_text("sku,prompt\nMUG-1,a mug in the snow\n")
    words, code = LOOKING[command]
    run = (
        "import os\n"
        "os.environ['PINCO_MODEL__WORKING_PIXELS'] = '16384'\n"
        "from typer.testing import CliRunner\n"
        "from flows.cli import app\n"
        f"done = CliRunner().invoke(app, {words!r})\n"
        f"assert done.exit_code == {code}, done.output\n"
    )
    assert not _loaded_by(run, tmp_path) & {"ray", "prefect", "torch"}


def test_the_library_starts_without_ray_prefect_and_torch() -> None:
    assert not _loaded_by("import pinco") & {"ray", "prefect", "torch", "pyarrow"}
    assert not _loaded_by("import pinco.generation; pinco.generation.ModelSettings") & {"ray", "prefect", "torch"}
    assert not _loaded_by("from pinco import ImageMaker") & {"ray", "prefect", "torch"}


def test_the_public_api_is_what_it_says() -> None:
    import pinco
    import pinco.generation

    for package in (pinco, pinco.generation):
        assert [name for name in package.__all__ if getattr(package, name, None) is None] == []
    with pytest.raises(AttributeError, match="nothing"):
        _ = pinco.nothing
