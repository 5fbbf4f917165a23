"""`pinco plan`."""

from __future__ import annotations

import typer

from flows.commands.errors import cli_errors
from flows.commands.options import (
    AdapterOption,
    BackboneOption,
    CatalogOption,
    ControlNetOption,
    EndpointOption,
    LimitOption,
    MethodOption,
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
    method: MethodOption = None,
    adapter: AdapterOption = None,
    controlnet: ControlNetOption = None,
    limit: LimitOption = None,
    only: OnlyOption = None,
    redo: RedoOption = False,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Show what a run would make, what is done already, and how long it may take. Writes nothing."""
    from flows.planning import CatalogRequest, plan_run
    from flows.settings import load_settings
    from pinco.catalog.plan.estimate import in_words

    with cli_errors():
        settings = load_settings(
            s3_endpoint=s3_endpoint,
            model__backbone=backbone,
            model__method=method,
            model__adapter=adapter,
            model__controlnet=controlnet,
        )
        request = CatalogRequest(sheet, catalog, store, tuple(only or ()), limit, redo)
        planned = plan_run(request, settings)
    for warning in planned.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if planned.advice:
        typer.echo(planned.advice, err=True)
    products = len({job.sku for job in planned.jobs})
    typer.echo(f"{len(planned.jobs)} images of {products} products requested.")
    typer.echo(f"{len(planned.done)} are done already.")
    if planned.held:
        typer.echo(f"{len(planned.held)} failed permanently or are quarantined; `pinco retry` makes them again.")
    typer.echo(f"{len(planned.work)} would be made now.")
    if planned.work:
        lanes = settings.ray.lanes_wanted
        seconds = planned.estimate.wall_seconds(lanes)
        if seconds is None:
            typer.echo("No estimate yet: this store has no earlier images.")
        else:
            workers = "worker" if lanes == 1 else "workers"
            typer.echo(
                f"About {in_words(seconds)} on {lanes} {workers}, {in_words(planned.estimate.start_up)} of them to "
                f"start; estimated from the last {planned.estimate.basis} images of this store."
            )
