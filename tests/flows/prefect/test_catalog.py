"""What the flow hands to Prefect; that it runs on a server is shown in tests/e2e/test_prefect.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flows.driver.endings import TooManyFailuresError
from flows.driver.run import RunSummary
from flows.planning import CatalogRequest, RetryRequest
from flows.prefect import catalog as module
from flows.prefect.catalog import RequestError, catalog, note, run_in_prefect
from flows.settings import RaySettings, Settings


def test_the_run_form_has_addresses_and_no_data() -> None:
    properties = catalog.parameters.properties
    assert list(properties) == [
        "sheet", "catalog", "store", "retry", "backbone", "adapter", "method", "controlnet", "only", "limit", "redo",
        "settings",
    ]  # fmt: skip
    assert catalog.parameters.required == ["store"]
    assert all(field.get("description") for field in properties.values()), "the form says what to enter"


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, summary: Callable[..., RunSummary]) -> list[tuple[Any, Settings]]:
    """The requests and settings that reach the stages; no server is needed to see them."""
    seen: list[tuple[Any, Settings]] = []

    def run_stages(request: Any, settings: Settings, **_: Any) -> RunSummary:
        seen.append((request, settings))
        return summary()

    monkeypatch.setattr(module, "run_stages", run_stages)
    monkeypatch.setattr(module, "create_markdown_artifact", lambda *_, **__: None)
    monkeypatch.setattr(module, "catalog", catalog.fn)
    return seen


def test_a_sheet_or_a_retry_is_asked_for(stages: list[tuple[Any, Settings]]) -> None:
    catalog.fn("sheet.csv", "photos", store="out", only=["a"], limit=3)
    catalog.fn(store="out", retry="last-night")
    assert [request for request, _ in stages] == [
        CatalogRequest("sheet.csv", "photos", "out", ("a",), 3, False),
        RetryRequest("out", "last-night"),
    ]


@pytest.mark.parametrize("asked", [{}, {"sheet": "s"}, {"sheet": "s", "catalog": "c", "retry": "r"}])
def test_anything_else_is_refused_with_a_sentence(asked: dict[str, str], stages: list[tuple[Any, Settings]]) -> None:
    with pytest.raises(RequestError, match="Name a sheet and a catalog, or the id of a run to retry"):
        catalog.fn(store="out", **asked)


@pytest.mark.parametrize("request_", [CatalogRequest("s", "c", "out", ("a",), 3, True), RetryRequest("out", "night")])
def test_a_run_from_here_has_its_own_settings(request_: Any, stages: list[tuple[Any, Settings]]) -> None:
    settings = Settings(ray=RaySettings(threads=3), channels={"web": {"size": "96x96"}})
    run_in_prefect(request_, settings)
    assert stages == [(request_, settings)]


def test_an_early_end_is_a_failed_flow_run_and_a_whole_summary(
    stages: list[tuple[Any, Settings]], summary: Callable[..., RunSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = summary(error=TooManyFailuresError("9 of 10"))
    monkeypatch.setattr(module, "run_stages", lambda *_, **__: ended)
    assert run_in_prefect(RetryRequest("out", "night"), Settings()) is ended
    with pytest.raises(module.EndedEarlyError, match="9 of 10"):
        catalog.fn(store="out", retry="night")
    assert "Ended early: 9 of 10" in note(ended)
