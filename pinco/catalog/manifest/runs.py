"""The runs that a manifest knows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pyarrow.compute as pc

from pinco.catalog.manifest.connect import NoManifestError, table_errors
from pinco.catalog.manifest.table import ManifestTable
from pinco.errors import PincoError

_NAMED = 5


class UnknownRunError(PincoError, LookupError):
    """No row was made by a run of this name."""

    code = "unknown_run"


def known_runs(table: ManifestTable) -> list[str]:
    """The ids of all runs that made a row, superseded ones too, in the order of their first rows."""
    if table.delta is None:
        return []
    with table_errors(table.store, table.delta):
        rows = table.dataset().to_table(["run_id", "sequence"]).group_by("run_id").aggregate([("sequence", "min")])
    runs: list[str] = rows.sort_by("sequence_min").column("run_id").to_pylist()
    return runs


def require_manifest(table: ManifestTable) -> None:
    """Raise NoManifestError where a store has no manifest: its address is probably wrong."""
    if table.delta is None:
        raise NoManifestError(
            f"there is no manifest at {table.store.uri}: check the address. A store gets its manifest when its first "
            "images are made"
        )


def require_run(table: ManifestTable, run_id: str) -> None:
    """Raise UnknownRunError where no row was made by this run, with the ids that may be meant."""
    require_manifest(table)
    with table_errors(table.store, table.delta):
        if table.dataset().head(1, filter=pc.field("run_id") == run_id).num_rows:
            return
    raise UnknownRunError(f"{table.store.uri} has no run {run_id!r}. {_meant(run_id, known_runs(table))}")


def _meant(run_id: str, runs: Sequence[str]) -> str:
    close = difflib.get_close_matches(run_id, runs, n=1) or [run for run in runs if run.startswith(run_id)][-1:]
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"The latest runs are: {', '.join(runs[-_NAMED:])}" if runs else "It has no runs yet"
