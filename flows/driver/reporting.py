"""The contact sheet of a run, written into its store."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.report.contact_sheet import contact_sheet
from pinco.errors import first_line
from pinco.generation.take import RunSpec

log = logging.getLogger(__name__)

REPORTS = "reports/"


def write_report(spec: RunSpec, table: ManifestTable) -> str | None:
    """Write `reports/{run id}.html` with every visible row of the run.

    Returns:
        Its address; None where it could not be written. That is a warning and not an error: the rows are committed.
    """
    try:
        return _write(spec, table)
    except Exception as error:
        log.warning("no report was written for run %s: %s", spec.run_id, first_line(error), exc_info=error)
        return None


def _write(spec: RunSpec, table: ManifestTable) -> str:
    store = table.store
    key = f"{REPORTS}{spec.run_id}.html"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.html"
        rows = sorted(read_rows(table, run_id=spec.run_id), key=lambda row: (row.row, row.variant))
        contact_sheet(rows, out, store, key=key, title=f"Run {spec.run_id}", access=spec.access)
        store.put_if_absent(key, out.read_bytes(), "text/html; charset=utf-8")
    return store.uri_of(key)
