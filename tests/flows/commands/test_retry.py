from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from flows.driver import run
from flows.driver.run import RunSummary

Pinco = Callable[..., Result]


def test_it_retries_that_run(pinco: Pinco, summary: Callable[..., RunSummary], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def remember(*asked: Any, **_: Any) -> RunSummary:
        seen.extend(asked)
        return summary(done_before=0)

    monkeypatch.setattr(run, "retry_run", remember)
    done = pinco("retry", "store", "last-night", "--adapter", "/a")
    assert (done.exit_code, seen[:2], seen[2].model.adapter) == (0, ["store", "last-night"], "/a")
    assert "2 ok, 1 failed" in done.output
