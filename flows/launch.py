"""With or without Prefect: how ``pinco run`` starts a run on this machine."""

from __future__ import annotations

import os

from flows.commands.show import terminal
from flows.planning import CatalogRequest
from flows.progress import bar
from flows.run import RunSummary, run_catalog
from flows.settings import Settings


def launch(request: CatalogRequest, settings: Settings) -> RunSummary:
    """Run the request, as a Prefect flow run where the settings or PREFECT_API_URL ask for one.

    A server of Prefect's own for one run would take longer to start (15 s on two cores) than the demo's images do, and
    be gone with everything that it knew when the run ends. So a run on a laptop goes without; the stages are the same.
    """
    mode = settings.prefect.mode
    if mode == "temporary" or (mode == "auto" and os.environ.get("PREFECT_API_URL")):
        from flows.catalog import run_in_prefect

        return run_in_prefect(request, settings)
    return run_catalog(request, settings, watch=bar(terminal()))
