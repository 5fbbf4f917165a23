from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
    assert address.endswith("reports/night.html")
    page = Path(address).read_text(encoding="utf-8")
    assert "The photo is torn in two." in page and "Run night" in page
