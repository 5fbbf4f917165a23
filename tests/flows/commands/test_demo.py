from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from flows import start
from flows.commands.demo import PLACES, write_sheet
from flows.driver.run import RunSummary
from flows.planning import validate
from flows.settings import Settings
from pinco.generation.settings import ModelSettings


def test_the_demo_draws_writes_a_sheet_and_runs_it(
    pinco: Callable[..., Result], summary: Callable[..., RunSummary], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []

    def remember(request: Any, settings: Any) -> RunSummary:
        seen.append(request)
        return summary()

    monkeypatch.setattr(start, "start_run", remember)
    done = pinco("demo", "--out", "here", "--products", 2, "--seed", 1)
    assert done.exit_code == 0, done.output
    (request,) = seen
    assert validate(request.sheet, request.catalog, Settings(model=ModelSettings(working_pixels=4096))) == []
    assert len(list((tmp_path / "here" / "photos").iterdir())) == 2
    for said in ("8 images asked for", "Pictures", "Manifest", "Contact sheet", "make 9.0 s", "Drawing the products"):
        assert said in done.output


def test_every_product_is_asked_for_in_every_place(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path / "sheet.csv", [Path("red-mug-01.jpg")])
    (line,) = sheet.read_text().splitlines()[1:]
    assert line.startswith("red-mug-01,{{ product }} {{ place }},a red mug,")
    assert all(place in line for place in PLACES) and len(PLACES) == 4
