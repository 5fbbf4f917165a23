from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from flows import start
from flows.driver.endings import RunInterruptedError, TooManyFailuresError
from flows.driver.run import RunSummary
from flows.planning import CatalogRequest

Pinco = Callable[..., Result]
WORDS = ("run", "sheet.csv", "--catalog", "photos", "--store", "s3://shop/out")


def test_flags_become_the_request_and_the_settings(
    pinco: Pinco, summary: Callable[..., RunSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def remember(*asked: Any) -> RunSummary:
        seen.extend(asked)
        return summary()

    monkeypatch.setattr(start, "start_run", remember)
    done = pinco(
        *WORDS,
        "--backbone",
        "/b",
        "--adapter",
        "/a",
        "--preset",
        "fast",
        "--placement",
        "offload_text",
        "--limit",
        3,
        "--only",
        "x",
        "--only",
        "y",
        "--s3-endpoint",
        "http://s",
    )
    request, settings = seen
    assert request == CatalogRequest("sheet.csv", "photos", "s3://shop/out", ("x", "y"), 3, False)
    assert (settings.model.backbone, settings.model.adapter, settings.s3_endpoint) == ("/b", "/a", "http://s")
    assert (settings.model.preset, settings.model.placement) == ("fast", "offload_text")
    assert done.exit_code == 0, "failed rows are in the manifest and no failure of the run"


@pytest.mark.parametrize(
    ("error", "code"),
    [(RunInterruptedError("stopped"), 130), (TooManyFailuresError("too many"), 3), (ValueError("other"), 1)],
)
def test_what_ended_it_early_is_the_exit_code(
    pinco: Pinco, summary: Callable[..., RunSummary], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    monkeypatch.setattr(start, "start_run", lambda *_: summary(error=error))
    done = pinco(*WORDS)
    assert (done.exit_code, str(error) in done.output) == (code, True)


def test_a_bad_setting_is_a_sentence(pinco: Pinco, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINCO_RAY__THREADS", "many")
    done = pinco(*WORDS)
    assert done.exit_code == 1
    assert "environment variable PINCO_RAY__THREADS: ray.threads: it must" in done.output and "'many'" in done.output


def test_a_preset_that_does_not_exist_is_said(pinco: Pinco) -> None:
    done = pinco(*WORDS, "--preset", "best")
    assert done.exit_code != 0 and "model.preset" in done.output and "'quality'" in done.output
