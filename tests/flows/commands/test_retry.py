from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from flows import start
from flows.driver.run import RunSummary
from flows.planning import RetryRequest
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import open_store

Pinco = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path, failed: Callable[..., Row]) -> None:
    ManifestTable(open_store(str(tmp_path / "store"))).append([failed(0)], run_id="night", batch=1, base=0)


@pytest.mark.usefixtures("store")
def test_it_retries_that_run(pinco: Pinco, summary: Callable[..., RunSummary], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def remember(*asked: Any, **_: Any) -> RunSummary:
        seen.extend(asked)
        return summary(done_before=0)

    monkeypatch.setattr(start, "start_run", remember)
    done = pinco("retry", "store", "night", "--adapter", "/a")
    request, settings = seen
    assert (done.exit_code, request, settings.model.adapter) == (0, RetryRequest("store", "night"), "/a")
    assert "2 ok, 1 failed" in done.output


@pytest.mark.usefixtures("store")
def test_a_wrong_name_is_an_error_before_anything_starts(pinco: Pinco, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "start_run", lambda *_: pytest.fail("it started"))
    done = pinco("retry", "store", "nope")
    assert (done.exit_code, "latest runs are: night" in done.output) == (1, True)
    done = pinco("retry", "nowhere", "night")
    assert (done.exit_code, "there is no manifest" in done.output) == (1, True)
