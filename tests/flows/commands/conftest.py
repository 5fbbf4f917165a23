from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli import app


@pytest.fixture
def pinco(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PINCO_MODEL__WORKING_PIXELS", "4096")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def shop(tmp_path: Path, photo: Path) -> tuple[Path, Path]:
    """A sheet of two rows and the folder of its photo."""
    (tmp_path / "sheet.csv").write_text("sku,prompt\nball,on grass\nball,on sand\n")
    return tmp_path / "sheet.csv", photo.parent
