"""The order of stages and what the summary says, without actors; whole runs are in tests/e2e."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.driver import run as module
from flows.driver.endings import NoWorkersLeftError, RunInterruptedError
from flows.driver.making import Made
from flows.driver.run import run_stages
from flows.planning import CatalogRequest, RetryRequest
from flows.settings import Settings
from pinco.catalog.manifest.runs import UnknownRunError
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.sheet.problems import SheetError
from pinco.catalog.store.access import open_store
from pinco.generation.settings import ModelSettings


class NoRay:
    closed = 0

    def __init__(self, settings: object) -> None: ...

    def close(self) -> None:
        NoRay.closed += 1


@pytest.fixture
def asked(tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> CatalogRequest:
    monkeypatch.setattr(module, "RaySession", NoRay)
    monkeypatch.setattr(module, "write_report", lambda spec, table: "report.html")
    NoRay.closed = 0
    (tmp_path / "sheet.csv").write_text("sku,prompt\nball,on grass\n")
    return CatalogRequest(str(tmp_path / "sheet.csv"), str(tmp_path), str(tmp_path / "store"))


SETTINGS = Settings(model=ModelSettings(working_pixels=4096))


def making(made: Made, takes: list[Any] | None = None) -> Callable[..., Made]:
    def make_images(asked: list[Any], *_: object) -> Made:
        if takes is not None:
            takes.extend(asked)
        return made

    return make_images


def test_stages_come_in_order_and_are_timed(asked: CatalogRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def stage(name: str, work: Callable[[], Any], /) -> Any:
        names.append(name)
        return work()

    monkeypatch.setattr(module, "make_images", making(Made(Counter(ok=1))))
    summary = run_stages(asked, SETTINGS, stage=stage)
    assert names == ["plan", "make", "report"]
    assert list(summary.seconds) == ["plan", "make", "report", "close"]
    assert (summary.planned, summary.made, summary.report, NoRay.closed) == (1, 1, "report.html", 1)


@pytest.mark.parametrize(
    ("error", "report"), [(RunInterruptedError("stopped"), None), (NoWorkersLeftError("none"), "report.html")]
)
def test_what_ends_a_run_early_is_in_the_summary(
    asked: CatalogRequest, monkeypatch: pytest.MonkeyPatch, error: Exception, report: str | None
) -> None:
    monkeypatch.setattr(module, "make_images", making(Made(Counter(ok=1), error=error)))
    summary = run_stages(asked, SETTINGS)
    assert (summary.error, summary.report) == (error, report)


def test_a_bad_sheet_ends_it_before_anything_and_ray_is_left(asked: CatalogRequest) -> None:
    Path(asked.sheet).write_text("sku,prompt\nnobody,on grass\n")
    with pytest.raises(SheetError):
        run_stages(asked, SETTINGS)
    assert NoRay.closed == 1


def test_a_retry_asks_for_the_failed_rows_of_one_run_with_other_seeds(
    asked: CatalogRequest, monkeypatch: pytest.MonkeyPatch, failed: Callable[..., Row]
) -> None:
    store = open_store(asked.store)
    rows = [failed(0), failed(1)]
    ManifestTable(store).append(rows, run_id="night", batch=1, base=0)
    takes: list[Any] = []
    monkeypatch.setattr(module, "make_images", making(Made(Counter(ok=2)), takes))
    run_stages(RetryRequest(asked.store, "night"), SETTINGS)
    assert {take.job.job_id for take in takes} == {row.job_id for row in rows}
    assert all(take.seed != take.job.seed for take in takes)
    with pytest.raises(UnknownRunError, match="latest runs are: night"):
        run_stages(RetryRequest(asked.store, "another"), SETTINGS)


def test_what_would_be_better_than_blending_is_said_once(
    asked: CatalogRequest, toy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "make_images", making(Made(Counter(ok=1))))
    run_stages(asked, SETTINGS)
    assert "The method is" not in caplog.text
    model = ModelSettings(backbone=str(toy / "backbone"), working_pixels=4096)
    run_stages(asked, SETTINGS.model_copy(update={"model": model}))
    assert [record.getMessage() for record in caplog.records if "The method is blend" in record.getMessage()] != []
    assert caplog.text.count("The method is blend") == 1
