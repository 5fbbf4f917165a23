"""``pinco manifest show`` and ``pinco manifest export``: readers that follow the commits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.errors import explained
from flows.commands.options import EndpointOption, StoreArgument

app = typer.Typer(help="Read the manifest, by way of its commits.", no_args_is_help=True)

SHOWN = ("run_id", "sku", "prompt", "status", "reason", "error_message", "generation_id", "seconds")

RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only rows that this run made.")]


@app.command()
def show(
    store: StoreArgument,
    run: RunOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="The last N rows.")] = 50,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Print the latest rows, and how many there are of each status."""
    from collections import Counter

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from flows.settings import load_settings
    from pinco.catalog.readers import read_manifest
    from pinco.catalog.store import open_store

    with explained():
        endpoint = load_settings(s3_endpoint=s3_endpoint).s3_endpoint
        manifest = read_manifest(open_store(store, endpoint=endpoint), run_id=run, columns=SHOWN)
    table = Table("run", "sku", "prompt", "status", "why", "generation", "seconds")
    for row in manifest.slice(max(0, manifest.num_rows - limit)).to_pylist():
        why = row["reason"] or row["error_message"] or ""
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.2f}"
        cells = (row["run_id"], row["sku"], row["prompt"], row["status"], why, (row["generation_id"] or "")[:12], seconds)
        table.add_row(*(Text(cell) for cell in cells))
    console = Console()
    console.print(table)
    counts = Counter(manifest.column("status").to_pylist())
    console.print(f"{manifest.num_rows} images: " + (", ".join(f"{n} {s}" for s, n in counts.items()) or "none yet"))


@app.command()
def export(
    store: StoreArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="File to write; replaced in one step.")],
    run: RunOption = None,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Write all visible rows to one Parquet file for DuckDB, pandas or Spark."""
    from flows.settings import load_settings
    from pinco.catalog.readers import export_manifest
    from pinco.catalog.store import open_store

    with explained():
        endpoint = load_settings(s3_endpoint=s3_endpoint).s3_endpoint
        rows = export_manifest(open_store(store, endpoint=endpoint), out, run_id=run)
    typer.echo(f"{rows} rows written to {out}")
