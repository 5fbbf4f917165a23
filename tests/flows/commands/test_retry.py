from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from flows import start
from flows.driver.run import RunSummary
from flows.planning import RetryRequest

Pinco = Callable[..., Result]


def test_it_retries_that_run(pinco: Pinco, summary: Callable[..., RunSummary], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def remember(*asked: Any, **_: Any) -> RunSummary:
        seen.extend(asked)
        return summary(done_before=0)

    monkeypatch.setattr(start, "start_run", remember)
    done = pinco("retry", "store", "last-night", "--adapter", "/a")
    request, settings = seen
    assert (done.exit_code, request, settings.model.adapter) == (0, RetryRequest("store", "last-night"), "/a")
    assert "2 ok, 1 failed" in done.output
