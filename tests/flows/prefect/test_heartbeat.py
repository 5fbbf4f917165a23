from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from flows.prefect import heartbeat as module
from flows.prefect.heartbeat import heartbeat


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    beats: list[tuple[Any, ...]] = []

    def create(progress: float, description: str) -> str:
        beats.append(("create", progress, description))
        return "artifact"

    monkeypatch.setattr(module, "create_progress_artifact", create)
    monkeypatch.setattr(module, "update_progress_artifact", lambda *update: beats.append(("update", *update)))
    return beats


def test_the_heartbeat_is_one_artifact_brought_up_to_date(sent: list[tuple[Any, ...]]) -> None:
    counts: Counter[str] = Counter()
    with heartbeat(60)(counts.copy, 4):
        while not sent:
            pass
        counts["ok"] = 3
    assert sent == [("create", 0.0, "0 of 4: starting"), ("update", "artifact", 75.0, "3 of 4: 3 ok")]


def test_a_server_that_is_away_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(*_: object, **__: object) -> None:
        raise ConnectionError("no server")

    monkeypatch.setattr(module, "create_progress_artifact", create)
    with heartbeat(60)(Counter, 4):
        pass
