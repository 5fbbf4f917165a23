"""The examples run as they stand, in the order in which a new user would try them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pinco.toy.drawing.photos import write_demo_photos

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(example: str, *words: object, folder: Path, steps: int = 2) -> str:
    environment = os.environ | {"PINCO_MODEL__STEPS": str(steps), "PINCO_RAY__OBJECT_STORE_MIB": "100"}
    command = [sys.executable, str(EXAMPLES / example), *(str(word) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two photos and a sheet."""
    folder = tmp_path_factory.mktemp("shop")
    photos = write_demo_photos(folder / "photos", 2, seed=3)
    rows = [f"{photo.stem},a mug on a wooden table" for photo in photos]
    (folder / "sheet.csv").write_text("\n".join(["sku,prompt", *rows]) + "\n")
    return folder


def test_one_image(shop: Path) -> None:
    photo = next((shop / "photos").iterdir())
    said = run("one_image.py", photo, "a mug in the snow", "out.png", folder=shop)
    picture = np.asarray(Image.open(shop / "out.png"))
    assert picture.shape == (512, 512, 3) and picture.std() > 10
    assert "product untouched: True" in said


def test_a_run_from_python_and_its_manifest(shop: Path) -> None:
    said = run("run_from_python.py", "sheet.csv", "photos", "out", folder=shop)
    assert "2 images to make" in said and "contact sheet: " in said
    said = run("read_manifest.py", "out", folder=shop)
    assert "a mug on a wooden table" in said and "2" in said


def test_the_adapter_on_a_diffusers_pipeline(shop: Path) -> None:
    photo = next((shop / "photos").iterdir())
    said = run("adapter_on_diffusers.py", photo, "a mug in the snow", "adapter.png", folder=shop)
    assert Image.open(shop / "adapter.png").size == (128, 128)
    assert "detached: True" in said


def test_every_example_is_tested_and_short() -> None:
    tested = Path(__file__).read_text()
    examples = sorted(EXAMPLES.glob("*.py"))
    assert [path.name for path in examples if path.name not in tested] == []
    for path in examples:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path.name} says what it shows"
        assert path.read_text().count("\n") <= 45
