"""`pinco check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.errors import FAILED, cli_errors
from flows.commands.options import EndpointOption, StoreArgument

if TYPE_CHECKING:
    from pinco.catalog.check.findings import Checked, Finding

_SHOWN = 100
_WORDS = {
    "log": "files of the table's log",
    "rows": "files of rows",
    "image": "images",
    "waiting": "rows that wait",
}


def check(
    store: StoreArgument,
    repair: Annotated[
        bool, typer.Option("--repair", help="Go on without what is lost, so that the next run makes it again.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Read every image, not only 200 of them.")] = False,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Compare a store with its manifest: the table, the images, the rows that wait.

    Exit code 0: nothing is wrong, or it was repaired; 1: something is wrong.
    """
    from flows.planning import new_run_id
    from flows.settings import load_settings
    from pinco.catalog.check.findings import check_store
    from pinco.catalog.check.repair import repair as mend
    from pinco.catalog.store.access import open_store

    with cli_errors():
        opened = open_store(store, load_settings(s3_endpoint=s3_endpoint).access)
        checked = check_store(opened, full=full)
        _print_checked(checked)
        if not checked.findings:
            return
        _print_findings(checked.findings)
        if not repair:
            typer.echo(f"Nothing was changed. `pinco check {store} --repair` goes on without what is lost.")
            raise typer.Exit(FAILED)
        done = mend(opened, checked.findings, new_run_id())
    typer.echo(f"{done.rows} rows were removed from the table; the next run of their sheet makes them again.")
    if done.adopted:
        typer.echo(f"{done.adopted} rows that waited beside their images are in the table now.")
    if done.left:
        names = ", ".join(finding.key for finding in done.left)
        typer.echo(
            f"Not repaired: {names}. Bring it back from a backup, or from an earlier version of the object where the "
            "bucket keeps them.",
            err=True,
        )
        raise typer.Exit(FAILED)


def _print_checked(checked: Checked) -> None:
    typer.echo(f"{checked.rows} rows in {checked.files} files, {checked.images} images, {checked.hashed} of them read.")
    if checked.waiting:
        typer.echo(f"{checked.waiting} rows wait beside their images; the next run takes them over.")
    if checked.unnamed:
        typer.echo(f"{checked.unnamed} images have no row; `pinco manifest vacuum` removes them when they are old.")
    if not checked.findings:
        typer.echo("Nothing is missing or damaged.")


def _print_findings(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("file", overflow="fold", ratio=3)
    table.add_column("what is wrong", overflow="fold", ratio=2)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("repair", no_wrap=True)
    for finding in findings[:_SHOWN]:
        can = "yes" if finding.repairable else "no"
        table.add_row(Text(finding.key), Text(finding.reason), str(finding.rows), can)
    Console().print(table)
    if len(findings) > _SHOWN:
        typer.echo(f"and {len(findings) - _SHOWN} more")
    counts = Counter(finding.kind for finding in findings)
    typer.echo("Missing or damaged: " + ", ".join(f"{count} {_WORDS[kind]}" for kind, count in counts.items()))
