from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from flows.driver.run import RunSummary


@pytest.fixture
def summary() -> Callable[..., RunSummary]:
    """The summary of a small run, with changes."""

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
