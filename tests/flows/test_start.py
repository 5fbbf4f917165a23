from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flows import start as module
from flows.planning import CatalogRequest
from flows.settings import PrefectSettings, Settings
from flows.start import start_run

REQUEST = CatalogRequest("sheet.csv", "photos", "store")


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which way a run goes, without running it."""
    import flows.prefect.catalog

    monkeypatch.setattr(module, "run_stages", lambda *_, **__: "run_directly")
    monkeypatch.setattr(flows.prefect.catalog, "run_in_prefect", lambda *_: "in Prefect")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize(
    ("mode", "server", "way"),
    [
        ("auto", None, "run_directly"),
        ("auto", "http://127.0.0.1:4200/api", "in Prefect"),
        ("temporary", None, "in Prefect"),
        ("off", "http://127.0.0.1:4200/api", "run_directly"),
    ],
)
def test_prefect_is_used_where_it_is_asked_for(
    mode: Any, server: str | None, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if server:
        monkeypatch.setenv("PREFECT_API_URL", server)
    assert str(start_run(REQUEST, Settings(prefect=PrefectSettings(mode=mode)))) == way


@pytest.mark.usefixtures("ways")
def test_a_temporary_server_leaves_the_users_prefect_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", "the user's own")
    start_run(REQUEST, Settings(prefect=PrefectSettings(mode="temporary")))
    assert os.environ["PREFECT_HOME"] == "the user's own", "somebody who sets it means it"
    monkeypatch.delenv("PREFECT_HOME")
    start_run(REQUEST, Settings(prefect=PrefectSettings(mode="temporary")))
    home = Path(os.environ["PREFECT_HOME"])
    assert home.is_dir() and home.name.startswith("pinco-prefect-")
