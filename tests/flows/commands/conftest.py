from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli import app
from flows.driver.run import RunSummary


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


@pytest.fixture
def summary() -> Callable[..., RunSummary]:
    def make(**changes: Any) -> RunSummary:
        fields: dict[str, Any] = {
            "run_id": "night",
            "store": "store",
            "planned": 4,
            "done_before": 1,
            "held": 0,
            "adopted": 0,
            "statuses": Counter(ok=2, failed=1),
            "dropped": 0,
            "report": "store/reports/night.html",
            "seconds": {"plan": 0.5, "make": 9.0},
        }
        return RunSummary(**fields | changes)

    return make
