"""The contact sheet of a run, written into its store."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flows.take import RunSpec
from pinco.catalog.readers import read_rows
from pinco.catalog.report import contact_sheet

REPORTS = "reports/"


def write_report(spec: RunSpec) -> str:
    """Write ``reports/{run id}.html`` with every visible row of the run; returns its address."""
    store = spec.open_store()
    key = f"{REPORTS}{spec.run_id}.html"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.html"
        rows = sorted(read_rows(store, run_id=spec.run_id), key=lambda row: (row.row, row.variant))
        contact_sheet(rows, out, store, title=f"Run {spec.run_id}", endpoint=spec.s3_endpoint)
        store.put_if_absent(key, out.read_bytes(), "text/html; charset=utf-8")
    return store.uri_of(key)
