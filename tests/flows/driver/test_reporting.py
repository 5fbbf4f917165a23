from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.driver import reporting
from flows.driver.reporting import write_report
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.generation.take import RunSpec


def test_the_report_shows_the_run_and_lies_in_its_store(spec: RunSpec, failed: Callable[..., Row]) -> None:
    store = spec.open_store()
    rows = [failed(0), failed(1, error_message="The photo is torn in two.")]
    table = ManifestTable(store)
    table.append(rows, run_id="night", batch=1, base=0)
    address = write_report(spec, table)
    assert address is not None and address.endswith("reports/night.html")
    page = Path(address).read_text(encoding="utf-8")
    assert "The photo is torn in two." in page and "Run night" in page


@pytest.mark.parametrize("error", [struct.error("not an integer"), OSError("no space"), MemoryError()])
def test_a_report_that_fails_is_a_warning(
    error: Exception, spec: RunSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(reporting, "contact_sheet", fail)
    assert write_report(spec, ManifestTable(spec.open_store())) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "no report was written for run night" in record.getMessage()
