"""The habits that keep the house easy to walk through, checked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("preprocessing", "pinco", "flows")
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 400
MAX_ASSET_BYTES = 40_000_000


def _tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_modules_are_small() -> None:
    lines = {str(path): (ROOT / path).read_text().count("\n") for path in MODULES}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


def test_every_module_has_its_test_module() -> None:
    missing = [
        str(path)
        for path in MODULES
        if not path.name.startswith("__") and not (ROOT / "tests" / path.with_name(f"test_{path.name}")).is_file()
    ]
    assert missing == []


def test_every_module_says_what_it_is() -> None:
    texts = {str(path): (ROOT / path).read_text().lstrip() for path in MODULES}
    assert [path for path, text in texts.items() if text and not text.startswith(('"""', 'r"""'))] == []


def test_no_drawer_for_leftovers() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert [str(path) for path in MODULES if path.name in drawers] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_folder_is_a_package(package: str) -> None:
    folders = {path.parent for path in MODULES if path.parts[0] == package}
    assert [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").is_file()] == []


def test_shipped_weights_stay_small() -> None:
    assets = ROOT / "pinco" / "toy" / "assets"
    assert sum(path.stat().st_size for path in assets.rglob("*") if path.is_file()) <= MAX_ASSET_BYTES


def test_no_path_of_one_machine() -> None:
    # Written in halves, so that this file does not find itself.
    machine = [half + "/" for half in ("/wo" + "rk", "/ho" + "me", "/ro" + "ot", "/Us" + "ers")]
    text = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", ".lock", ".html", ""}
    found = [
        f"{path.relative_to(ROOT)}: {place}"
        for path in _tracked()
        if path.suffix in text
        for place in machine
        if place in path.read_text(errors="ignore")
    ]
    assert found == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_ships_its_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_shared_code_names_no_family() -> None:
    """What depends on a backbone's architecture is in that family's own files, and nowhere else."""
    homes = [ROOT / "pinco" / part for part in ("adapter/families", "pipelines/families", "pipelines/controlnets")]
    own = {path for home in homes for path in home.glob("*.py") if path.stem not in ("__init__", "base")}
    names = {path.stem for path in own}
    assert names
    shared = ("adapter", "pipelines", "generation", "training", "evaluation", "catalog")
    files = {path for part in shared for path in (ROOT / "pinco" / part).rglob("*.py")}
    files |= {path for package in ("flows", "preprocessing") for path in (ROOT / package).rglob("*.py")}
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files - own
        for name in names
        if name in path.read_text().lower()
    ]
    assert found == []
