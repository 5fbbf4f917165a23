"""Ray's start and end on this machine, or the connection to a cluster.

Starting takes seconds (10 to 20 on two busy cores), so it runs beside the reading of the sheet. Ray is started once per
process; a process that has it running already (a test session, a Prefect worker) keeps it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import Future
from typing import Any

import psutil
from tenacity import retry, retry_if_exception, stop_after_attempt

from flows.driver.endings import RayDiedError
from flows.driver.ray_folder import RayFolder
from flows.settings import RaySettings

log = logging.getLogger(__name__)

START_ATTEMPTS = 3
SERVERS = ("raylet", "gcs_server")

ANSWER_SECONDS = 30.0
"""How long a cluster may leave the question for its nodes unanswered before it is taken for dead."""

ASK_SECONDS = 5.0


class RaySession:
    """`RaySession(settings)` begins to start Ray and returns at once; `wait()` blocks until it can be used."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings
        self._folder: RayFolder | None = None
        self._servers: list[psutil.Process] = []
        self._answered = time.monotonic()
        self._started: Future[bool] = Future()
        self._closed = threading.Event()
        threading.Thread(target=self._live, name="ray-session", daemon=True).start()

    def wait(self) -> None:
        """Block until Ray can be used; raises what `ray.init` raised (ConnectionError where no cluster answers)."""
        self._started.result()

    def check(self) -> None:
        """See whether Ray still lives: its servers, where it was started here, else whether the cluster answers.

        Raises:
            RayDiedError: It does not. Calls to Ray may block from now on.
        """
        for server in self._servers:
            if not server.is_running() or server.status() == psutil.STATUS_ZOMBIE:
                raise RayDiedError(f"Ray's process {server.pid} on this machine ended unexpectedly")
        silent = time.monotonic() - self._answered
        if self._asks and silent > ANSWER_SECONDS:
            raise RayDiedError(f"the Ray cluster at {self._settings.address} has not answered for {silent:.0f} s")

    def close(self) -> None:
        """Leave Ray within `close_seconds`, if it was started here: a hung raylet must not hold up the night."""
        try:
            owned = self._started.result(timeout=60 + self._settings.close_seconds)
        except Exception:  # it never started, and who needed it has been told by wait()
            owned = False
        if owned:
            self._leave()
        if self._folder is not None:
            self._folder.remove(self._settings.close_seconds)
        self._closed.set()

    @property
    def _asks(self) -> bool:
        return self._settings.address != "local"

    def _live(self) -> None:
        """Linux ends Ray's servers together with the very thread that started them, so this one stays until the end."""
        try:
            owned = self._start()
            self._servers = [child for child in psutil.Process().children() if owned and child.name() in SERVERS]
            self._answered = time.monotonic()
            self._started.set_result(owned)
        except BaseException as error:
            self._started.set_exception(error)
            return
        while not self._closed.wait(ASK_SECONDS if self._asks else None):
            self._ask()

    def _ask(self) -> None:
        import ray

        try:
            if any(node["Alive"] for node in ray.nodes()):
                self._answered = time.monotonic()
        except Exception as error:  # no answer is the answer
            log.warning("the Ray cluster did not answer: %s", error)

    def _start(self) -> bool:
        """Start or join Ray; False where this process has it already."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # A photo's error is in both answers of prepare(); the driver takes it from the first and never asks the second.
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
        if not self._asks:
            # Ray's switch for "no cluster, this machine only", whatever its name says: everything binds to loopback.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        import ray

        if ray.is_initialized():
            return False
        options: dict[str, Any] = {
            "address": self._settings.address,
            "logging_level": logging.ERROR,
            "log_to_driver": False,
        }
        if not self._asks:
            self._folder = RayFolder()
            options |= {
                "include_dashboard": False,
                "object_store_memory": self._settings.object_store_mib * 2**20,
                # Logical CPUs only count actors; a one-core machine must still place one of each kind.
                "num_cpus": max(os.cpu_count() or 1, self._settings.preparers + self._settings.lanes_wanted),
                "_temp_dir": self._folder.path,
            }
        logging.getLogger("ray").setLevel(logging.ERROR)
        _init(options, self._folder)
        return True

    def _leave(self) -> None:
        import ray

        leaving = threading.Thread(target=ray.shutdown, daemon=True)
        leaving.start()
        leaving.join(self._settings.close_seconds)
        if leaving.is_alive():
            log.warning("Ray did not close within %.0f s; ending its processes", self._settings.close_seconds)


def _start_timed_out(error: BaseException) -> bool:
    """Ray gives its own servers 30 s, whatever else the machine is doing."""
    return "timed out during startup" in str(error)


@retry(retry=retry_if_exception(_start_timed_out), stop=stop_after_attempt(START_ATTEMPTS), reraise=True)
def _init(options: dict[str, Any], folder: RayFolder | None) -> None:
    import ray

    try:
        ray.init(**options)
    except Exception as error:
        if _start_timed_out(error) and folder is not None:  # then it leaves its servers running
            log.warning("this machine is too busy for Ray to start within its 30 s")
            folder.clear()
        raise
