"""`pinco run`."""

from __future__ import annotations

import typer

from flows.commands.errors import cli_errors, exit_code
from flows.commands.options import (
    AdapterOption,
    BackboneOption,
    CatalogOption,
    ControlNetOption,
    EndpointOption,
    LimitOption,
    MethodOption,
    OnlyOption,
    PlacementOption,
    PresetOption,
    RedoOption,
    SheetArgument,
    StoreOption,
)


def run(
    sheet: SheetArgument,
    catalog: CatalogOption,
    store: StoreOption,
    backbone: BackboneOption = None,
    method: MethodOption = None,
    adapter: AdapterOption = None,
    controlnet: ControlNetOption = None,
    preset: PresetOption = None,
    placement: PlacementOption = None,
    limit: LimitOption = None,
    only: OnlyOption = None,
    redo: RedoOption = False,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Make the images that the sheet requests and the store does not have.

    It is safe to stop a run (Ctrl-C commits what is finished), to run it again, and to run two at once.
    Exit code 0: the run is complete (rows that failed are in the manifest); 2: the sheet has errors;
    3: too many rows failed or no worker could be started; 130: interrupted; 1: anything else.
    """
    from flows.commands.show import print_summary
    from flows.planning import CatalogRequest
    from flows.settings import load_settings
    from flows.start import start_run

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
        summary = start_run(CatalogRequest(sheet, catalog, store, tuple(only or ()), limit, redo), settings)
    print_summary(summary)
    raise typer.Exit(exit_code(summary.error))
