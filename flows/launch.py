"""With or without Prefect: how ``pinco run`` starts a run on this machine."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from flows.driver.run import RunSummary, run_catalog
from flows.planning import CatalogRequest
from flows.progress import bar, terminal
from flows.settings import Settings


def launch(request: CatalogRequest, settings: Settings) -> RunSummary:
    """Run the request, as a Prefect flow run where the settings or PREFECT_API_URL ask for one.

    A server of Prefect's own for one run would take longer to start (15 s on two cores) than a small catalog's images
    do, and be gone with everything that it knew when the run ends. So a run on a laptop goes without; the stages are
    the same.
    """
    mode = settings.prefect.mode
    if mode == "off" or (mode == "auto" and not os.environ.get("PREFECT_API_URL")):
        return run_catalog(request, settings, watch=bar(terminal()))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if mode == "temporary":
        _use_own_home()
    from flows.prefect.catalog import run_in_prefect

    return run_in_prefect(request, settings)


def _use_own_home() -> None:
    """A temporary server's database is not the user's: it lives in a folder of its own and goes with the process."""
    if "PREFECT_HOME" not in os.environ:
        os.environ["PREFECT_HOME"] = home = tempfile.mkdtemp(prefix="pinco-prefect-")
        # Prefect is imported after this and so ends its server before the folder goes.
        atexit.register(shutil.rmtree, home, ignore_errors=True)
