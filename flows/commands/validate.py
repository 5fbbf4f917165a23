"""`pinco validate`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.errors import BAD_SHEET, cli_errors
from flows.commands.options import CatalogOption, EndpointOption, SheetArgument


def validate(
    sheet: SheetArgument,
    catalog: CatalogOption,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")] = False,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Check a sheet: all errors at once, each with row, column and what to do. Exit code 2 if there are errors."""
    from flows.planning import validate as check
    from flows.settings import load_settings
    from pinco.catalog.sheet.problems import SheetError, problems_json

    with cli_errors():
        settings = load_settings(s3_endpoint=s3_endpoint)
        try:
            warnings = check(sheet, catalog, settings)
        except SheetError as errors:
            if not as_json:
                raise
            typer.echo(problems_json(errors.errors, errors.warnings))
            raise typer.Exit(BAD_SHEET) from None
        if as_json:
            typer.echo(problems_json([], warnings))
            return
        for warning in warnings:
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(f"{sheet}: no errors.")
