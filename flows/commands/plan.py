"""``pinco plan``."""

from __future__ import annotations

import typer

from flows.commands.errors import cli_errors
from flows.commands.options import (
    BackboneOption,
    CatalogOption,
    EndpointOption,
    LimitOption,
    OnlyOption,
    RedoOption,
    SheetArgument,
    StoreOption,
)


def plan(
    sheet: SheetArgument,
    catalog: CatalogOption,
    store: StoreOption,
    backbone: BackboneOption = None,
    limit: LimitOption = None,
    only: OnlyOption = None,
    redo: RedoOption = False,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Say what a run would make, what is there already, and how long it may take. Runs nothing."""
    from flows.planning import CatalogRequest, plan_catalog
    from flows.settings import load_settings

    with cli_errors():
        settings = load_settings(s3_endpoint=s3_endpoint, model__backbone=backbone)
        planned = plan_catalog(CatalogRequest(sheet, catalog, store, tuple(only or ()), limit, redo), settings)
    for warning in planned.warnings:
        typer.echo(f"warning: {warning}", err=True)
    products = len({job.sku for job in planned.jobs})
    typer.echo(f"{len(planned.jobs)} images of {products} products are asked for.")
    typer.echo(f"{len(planned.done)} are there already.")
    if planned.held:
        typer.echo(f"{len(planned.held)} failed for good or are quarantined; `pinco retry` asks for them again.")
    typer.echo(f"{len(planned.work)} would be made now.")
    lanes = settings.ray.lanes_wanted
    if planned.work and planned.estimate.seconds is not None:
        minutes = planned.estimate.seconds / lanes / 60
        workers = "worker" if lanes == 1 else "workers"
        typer.echo(
            f"About {minutes:.1f} minutes on {lanes} {workers}, "
            f"by the last {planned.estimate.basis} images of this store."
        )
    elif planned.work:
        typer.echo("How long that takes cannot be said yet: this store has no earlier images to judge by.")
