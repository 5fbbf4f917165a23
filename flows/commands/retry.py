"""``pinco retry``."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.errors import cli_errors, exit_code
from flows.commands.options import AdapterOption, BackboneOption, EndpointOption, StoreArgument


def retry(
    store: StoreArgument,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id, as `pinco manifest show` lists it.")],
    backbone: BackboneOption = None,
    adapter: AdapterOption = None,
    s3_endpoint: EndpointOption = None,
) -> None:
    """Ask again for the images of a run that failed or are quarantined, whatever the reason was.

    Each gets another seed. A photo that was replaced meanwhile is a new request: run the sheet again for it.
    """
    from flows.commands.show import print_summary
    from flows.driver.run import retry_run
    from flows.progress import bar, terminal
    from flows.settings import load_settings

    with cli_errors():
        settings = load_settings(s3_endpoint=s3_endpoint, model__backbone=backbone, model__adapter=adapter)
        summary = retry_run(store, run, settings, watch=bar(terminal()))
    print_summary(summary)
    raise typer.Exit(exit_code(summary.error))
