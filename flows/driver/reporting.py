"""The contact sheet of a run, written into its store."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.report.contact_sheet import contact_sheet
from pinco.generation.take import RunSpec

REPORTS = "reports/"


def write_report(spec: RunSpec, table: ManifestTable) -> str:
    """Write ``reports/{run id}.html`` with every visible row of the run; returns its address."""
    store = table.store
    key = f"{REPORTS}{spec.run_id}.html"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.html"
        rows = sorted(read_rows(table, run_id=spec.run_id), key=lambda row: (row.row, row.variant))
        contact_sheet(rows, out, store, title=f"Run {spec.run_id}", access=spec.access)
        store.put_if_absent(key, out.read_bytes(), "text/html; charset=utf-8")
    return store.uri_of(key)
