"""``pinco manifest show`` and ``pinco manifest export``: readers that follow the commits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.errors import cli_errors
from flows.commands.options import EndpointOption, StoreArgument

app = typer.Typer(help="Read the manifest, by way of its commits.", no_args_is_help=True)

SHOWN = ("run_id", "sku", "prompt", "status", "reason", "error_message", "generation_id")

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

    from flows.progress import describe
    from flows.settings import load_settings
    from pinco.catalog.manifest.readers import read_manifest
    from pinco.catalog.store.access import open_store

    with cli_errors():
        access = load_settings(s3_endpoint=s3_endpoint).access
        manifest = read_manifest(open_store(store, access), run_id=run, columns=SHOWN)
    table = Table()
    for name in ("sku", "prompt", "status", "why"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    table.add_column("generation", no_wrap=True, min_width=12)
    for row in manifest.slice(max(0, manifest.num_rows - limit)).to_pylist():
        why = row["reason"] or row["error_message"] or ""
        generation = (row["generation_id"] or "")[:12]
        table.add_row(*(Text(cell) for cell in (row["sku"], row["prompt"], row["status"], why, generation)))
    Console().print(table)
    statuses = Counter(manifest.column("status").to_pylist())
    typer.echo(f"{manifest.num_rows} images: {describe(statuses) if statuses else 'none yet'}")
    for name, images in Counter(manifest.column("run_id").to_pylist()).items():
        typer.echo(f"run {name}: {images}")


@app.command()
def export(
    store: StoreArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="File to write; replaced in one step.")],
    run: RunOption = None,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Write all visible rows to one Parquet file for DuckDB, pandas or Spark."""
    from flows.settings import load_settings
    from pinco.catalog.manifest.readers import export_manifest
    from pinco.catalog.store.access import open_store

    with cli_errors():
        access = load_settings(s3_endpoint=s3_endpoint).access
        rows = export_manifest(open_store(store, access), out, run_id=run)
    typer.echo(f"{rows} rows written to {out}")
