"""``pinco manifest``: read the manifest, and keep it in order."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.errors import cli_errors
from flows.commands.options import EndpointOption, StoreArgument

if TYPE_CHECKING:
    from pinco.catalog.manifest.table import ManifestTable


class StatusName(StrEnum):
    """The statuses of a row, as the command line names them."""

    OK = "ok"
    REVIEW = "review"
    REJECTED = "rejected"
    FAILED = "failed"
    QUARANTINED = "quarantined"


app = typer.Typer(help="Read the manifest, a Delta table, and keep it in order.", no_args_is_help=True)

SHOWN = ("run_id", "sku", "prompt", "status", "reason", "error_message", "generation_id")

RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only rows that this run made.")]
AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", metavar="WHEN", help="As it was: a version number, or a time such as 2026-05-01T06:00."),
]


@app.command()
def show(
    store: StoreArgument,
    run: RunOption = None,
    status: Annotated[
        list[StatusName] | None, typer.Option("--status", help="Only rows of this status; can be repeated.")
    ] = None,
    sku: Annotated[
        list[str] | None, typer.Option("--sku", metavar="SKU", help="Only this product; can be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="The last N rows.")] = 50,
    wide: Annotated[bool, typer.Option("--wide", help="Every column that has a value, a line each.")] = False,
    as_of: AsOfOption = None,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Print the latest rows, and how many there are of each status."""
    from collections import Counter

    from flows.commands.rows import print_columns, print_table
    from flows.progress import describe
    from pinco.catalog.manifest.readers import find_rows

    then = parse_as_of(as_of)
    with cli_errors():
        table = _open(store, s3_endpoint, then)
        statuses = [each.value for each in status or ()]
        found = find_rows(table, run_id=run, statuses=statuses, skus=sku or (), columns=None if wide else SHOWN)
    shown = found.slice(max(0, found.num_rows - limit)).to_pylist()
    (print_columns if wide else print_table)(shown)
    counts = Counter(found.column("status").to_pylist())
    more = f", the last {len(shown)} of them above" if len(shown) < found.num_rows else ""
    typer.echo(f"{found.num_rows} images: {describe(counts) if counts else 'none'}{more}")
    for name, images in Counter(found.column("run_id").to_pylist()).items():
        typer.echo(f"run {name}: {images}")


@app.command()
def export(
    store: StoreArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="File to write; replaced in one step.")],
    run: RunOption = None,
    as_of: AsOfOption = None,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Write all visible rows to one Parquet file, for those who want a file."""
    from pinco.catalog.manifest.readers import export_manifest
    from pinco.catalog.manifest.runs import require_run

    then = parse_as_of(as_of)
    with cli_errors():
        table = _open(store, s3_endpoint, then)
        if run is not None:
            require_run(table, run)
        rows = export_manifest(table, out, run_id=run)
    typer.echo(f"{rows} rows written to {out}")


@app.command()
def history(
    store: StoreArgument,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="The last N versions.")] = 50,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Print the table's versions, newest first: when, which run, how many rows."""
    from itertools import islice

    from rich.console import Console
    from rich.table import Table

    from pinco.catalog.manifest.history import history as read_history

    with cli_errors():
        versions = list(islice(read_history(_open(store, s3_endpoint).store), limit))
    table = Table(box=None, padding=(0, 2, 0, 0))  # 80 columns hold every run's id whole
    for name in ("version", "time (UTC)", "what", "run", "rows", "dropped"):
        number = name in ("version", "rows", "dropped")
        table.add_column(name, justify="right" if number else "left", no_wrap=name != "run", overflow="fold")
    for version in versions:
        appended = (version.run, str(version.rows), str(version.dropped)) if version.run else ("", "", "")
        table.add_row(str(version.version), f"{version.at:%Y-%m-%d %H:%M}", version.operation.lower(), *appended)
    Console().print(table)


@app.command()
def compact(store: StoreArgument, s3_endpoint: EndpointOption = None) -> None:
    """Put the table's small files together. Reading gets quicker; runs and readers go on meanwhile."""
    from pinco.catalog.manifest.upkeep import compact as put_together

    with cli_errors():
        done = put_together(_open(store, s3_endpoint))
    typer.echo(f"{done.before} files are {done.after} now. The old ones stay for earlier versions until a vacuum.")


@app.command()
def vacuum(
    store: StoreArgument,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; without it they are only named.")] = False,
    days: Annotated[
        int, typer.Option("--days", min=1, metavar="N", help="Only what is older than N days. Longer than any run.")
    ] = 7,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Find what runs that died and compactions left behind, and delete it if asked to."""
    from datetime import timedelta

    from rich.filesize import decimal

    from pinco.catalog.manifest.upkeep import vacuum as clear

    with cli_errors():
        found = clear(_open(store, s3_endpoint), grace=timedelta(days=days), delete=delete)
    for key in (*found.table_files, *found.images, *found.waiting):
        typer.echo(key)
    count = len(found.table_files) + len(found.images) + len(found.waiting)
    typer.echo(
        f"{len(found.table_files)} files of the table, {len(found.images)} images without a row and "
        f"{len(found.waiting)} rows without an image, {decimal(found.size)}: "
        + ("deleted." if delete else "not deleted; add --delete to do it." if count else "nothing to delete.")
    )


@app.command()
def migrate(store: StoreArgument, s3_endpoint: EndpointOption = None) -> None:
    """Convert the manifest of an earlier Pinco (`_commits/`, `_parts/`) to the table, once."""
    from flows.settings import load_settings
    from pinco.catalog.manifest.migrate import migrate as convert
    from pinco.catalog.store.access import open_store

    with cli_errors():
        done = convert(open_store(store, load_settings(s3_endpoint=s3_endpoint).access))
    if done is None:
        typer.echo("There is nothing to convert: the store has a manifest of today already, or none.")
    else:
        typer.echo(
            f"{done.rows} rows of {done.commits} commits were converted. "
            "The old files, _commits/ and _parts/, are not read any more and can be deleted."
        )


def _open(store: str, s3_endpoint: str | None, as_of: int | datetime | None = None) -> ManifestTable:
    """The manifest of a store that has one: a wrong address must not look like an empty store."""
    from flows.settings import load_settings
    from pinco.catalog.manifest.runs import require_manifest
    from pinco.catalog.manifest.table import open_manifest

    table = open_manifest(store, load_settings(s3_endpoint=s3_endpoint).access, as_of=as_of)
    require_manifest(table)
    return table


def parse_as_of(text: str | None) -> int | datetime | None:
    """A version number, or a time; without a time zone it is UTC. None stays None: now.

    Raises:
        typer.BadParameter: It is neither.
    """
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text):
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a version number nor a time such as 2026-05-01T06:00", param_hint="--as-of"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
