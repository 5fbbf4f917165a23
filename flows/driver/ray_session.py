"""Ray's start and end on this machine, or the connection to a cluster.

Starting takes seconds (10 to 20 on two busy cores), so it runs beside the reading of the sheet. Ray is started once per
process; a process that has it running already (a test session, a Prefect worker) keeps it.
"""

import logging
import os
import threading
from concurrent.futures import Future
from typing import Any

import psutil
from tenacity import retry, retry_if_exception, stop_after_attempt

from flows.settings import RaySettings

log = logging.getLogger(__name__)

START_ATTEMPTS = 3


class RaySession:
    """``RaySession(settings)`` begins to start Ray and returns at once; ``wait()`` blocks until it can be used."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings
        self._started: Future[bool] = Future()
        self._closed = threading.Event()
        threading.Thread(target=self._live, name="ray-session", daemon=True).start()

    def wait(self) -> None:
        """Raises what ``ray.init`` raised, for example ConnectionError where no cluster answers."""
        self._started.result()

    def close(self) -> None:
        """Leave Ray within ``close_seconds``, if it was started here: a hung raylet must not hold up the night."""
        try:
            owned = self._started.result(timeout=60 + self._settings.close_seconds)
        except Exception:  # it never started, and who needed it has been told by wait()
            return
        if owned:
            self._leave()
        self._closed.set()

    def _live(self) -> None:
        """Linux ends Ray's servers together with the very thread that started them, so this one stays until the end."""
        try:
            self._started.set_result(_start(self._settings))
        except BaseException as error:
            self._started.set_exception(error)
            return
        self._closed.wait()

    def _leave(self) -> None:
        import ray

        servers = psutil.Process().children()
        leaving = threading.Thread(target=ray.shutdown, daemon=True)
        leaving.start()
        leaving.join(self._settings.close_seconds)
        if leaving.is_alive():
            log.warning("Ray did not close within %.0f s; ending its processes", self._settings.close_seconds)
            _end(servers)


def _start(settings: RaySettings) -> bool:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A photo's error is in both answers of prepare(); the driver takes it from the first and never asks for the second.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    import ray

    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"address": settings.address, "logging_level": logging.ERROR, "log_to_driver": False}
    if settings.address == "local":
        options |= {
            "include_dashboard": False,
            "object_store_memory": settings.object_store_mib * 2**20,
            # Logical CPUs only count actors; a one-core machine must still place one of each kind.
            "num_cpus": max(os.cpu_count() or 1, settings.preparers + settings.lanes_wanted),
        }
    logging.getLogger("ray").setLevel(logging.ERROR)
    _init(options)
    return True


def _start_timed_out(error: BaseException) -> bool:
    """Ray gives its own servers 30 s, whatever else the machine is doing."""
    return "timed out during startup" in str(error)


@retry(retry=retry_if_exception(_start_timed_out), stop=stop_after_attempt(START_ATTEMPTS), reraise=True)
def _init(options: dict[str, Any]) -> None:
    import ray

    servers_before = set(psutil.Process().children())
    try:
        ray.init(**options)
    except Exception as error:
        if _start_timed_out(error):  # then it leaves its servers running
            log.warning("this machine is too busy for Ray to start within its 30 s")
            _end([child for child in psutil.Process().children() if child not in servers_before])
        raise


def _end(servers: list[psutil.Process]) -> None:
    """Kill Ray's servers, and the agents and workers below them."""
    with_children = [child for server in servers if server.is_running() for child in server.children(recursive=True)]
    for process in [*servers, *with_children]:
        try:
            if _is_ray(process):
                process.kill()
        except psutil.NoSuchProcess:
            continue


def _is_ray(process: psutil.Process) -> bool:
    """By name: this process may have other children, which are not ours to end."""
    return process.name() in {"raylet", "gcs_server"} or any("ray" in part for part in process.cmdline()[:3])
