"""What commands print about a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flows.progress import describe

if TYPE_CHECKING:
    from flows.driver.run import RunSummary


def print_summary(summary: RunSummary) -> None:
    """One run in a few lines."""
    if summary.adopted:
        typer.echo(f"{summary.adopted} images of an earlier, interrupted run were recovered.")
    if not summary.made and summary.error is None:
        typer.echo(f"Nothing to make: all {summary.done_before} of {summary.planned} images are done already.")
        _print_held(summary)
        return
    typer.echo(f"Run {summary.run_id}: {describe(summary.statuses)} ({summary.done_before} were done already).")
    if summary.dropped:
        typer.echo(f"{summary.dropped} of them were finished by another run first; its images are kept.")
    _print_held(summary)
    if summary.error is not None:
        typer.echo(f"The run ended early: {summary.error}", err=True)
    for placement in summary.placements:
        typer.echo(f"Model {placement}")
    typer.echo(f"Images and manifest: {summary.store}")
    if summary.report:
        typer.echo(f"Contact sheet: {summary.report}")
    typer.echo("Took " + ", ".join(f"{name} {took:.1f} s" for name, took in summary.seconds.items()))


def _print_held(summary: RunSummary) -> None:
    if summary.held:
        typer.echo(f"{summary.held} failed permanently or are quarantined; `pinco retry` makes them again.")
