"""The one way to start a run: `pinco run`, `pinco retry`, `pinco demo` and a program all call `start_run`."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from flows.driver.run import RunSummary, run_stages
from flows.planning import RunRequest
from flows.progress import Watch, bar, terminal
from flows.settings import Settings


def start_run(request: RunRequest, settings: Settings, *, watch: Watch | None = None) -> RunSummary:
    """Carry out a request to its end, as a Prefect flow run where the settings or PREFECT_API_URL ask for one.

    A Prefect server for one run alone would take longer to start (15 s on two cores) than a small catalog's images do,
    and be gone with everything that it knew when the run ends. So a run on a laptop goes without; the stages are the
    same.

    Args:
        request: What is asked for.
        settings: How it is carried out.
        watch: Shows the progress of a run without Prefect; None = a progress bar on standard error.

    Returns:
        What became of the run. Its `error` says what ended it early, after what was finished had been committed.

    Raises:
        PincoError: Nothing was made: the sheet has errors, or a store or the weights cannot be used.
    """
    mode = settings.prefect.mode
    if mode == "off" or (mode == "auto" and not os.environ.get("PREFECT_API_URL")):
        return run_stages(request, settings, watch=watch or bar(terminal()))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if mode == "temporary":
        _use_own_home()
    from flows.prefect.catalog import run_in_prefect

    return run_in_prefect(request, settings)


def _use_own_home() -> None:
    """Keep a temporary server's database apart from the user's: in a folder that is removed with the process."""
    if "PREFECT_HOME" not in os.environ:
        os.environ["PREFECT_HOME"] = home = tempfile.mkdtemp(prefix="pinco-prefect-")
        # Prefect is imported after this and so ends its server before the folder is removed.
        atexit.register(shutil.rmtree, home, ignore_errors=True)
