"""`pinco retry`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.errors import cli_errors, exit_code
from flows.commands.options import (
    AdapterOption,
    BackboneOption,
    ControlNetOption,
    EndpointOption,
    MethodOption,
    PlacementOption,
    PresetOption,
    StoreArgument,
)


def retry(
    store: StoreArgument,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id, as `pinco manifest show` lists it.")],
    backbone: BackboneOption = None,
    method: MethodOption = None,
    adapter: AdapterOption = None,
    controlnet: ControlNetOption = None,
    preset: PresetOption = None,
    placement: PlacementOption = None,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Make the images of a run that failed or are quarantined, whatever the reason was.

    Each gets another seed. A photo that was replaced since then is a new request: run the sheet again.
    """
    from flows.commands.show import print_summary
    from flows.planning import RetryRequest
    from flows.settings import load_settings
    from flows.start import start_run
    from pinco.catalog.manifest.runs import require_run
    from pinco.catalog.manifest.table import open_manifest

    with cli_errors():
        settings = load_settings(
            s3_endpoint=s3_endpoint,
            model__backbone=backbone,
            model__method=method,
            model__adapter=adapter,
            model__controlnet=controlnet,
            model__preset=preset,
            model__placement=placement,
        )
        require_run(open_manifest(store, settings.access), run)  # before Ray starts
        summary = start_run(RetryRequest(store, run), settings)
    print_summary(summary)
    raise typer.Exit(exit_code(summary.error))
