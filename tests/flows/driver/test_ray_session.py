from __future__ import annotations

import subprocess
import sys

import pytest
import ray

from flows.driver.ray_session import START_ATTEMPTS, RaySession
from flows.settings import RaySettings

PROGRAM = """
import gc, time, psutil
from flows.driver.ray_session import START_ATTEMPTS, RaySession
from flows.settings import RaySettings
session = RaySession(RaySettings(object_store_mib=100))
session.wait()
import ray
gc.collect()
print(ray.get(ray.remote(num_cpus=1)(lambda: 6 * 7).remote()))
servers = psutil.Process().children(recursive=True)
session.close()
gone, alive = psutil.wait_procs(servers, timeout=30)
print(ray.is_initialized(), len(servers) > 1, [process.name() for process in alive])
"""


@pytest.mark.slow
def test_ray_is_started_used_and_left_without_a_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240)
    assert done.stdout.split("\n")[:2] == ["42", "False True []"], done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_ray_that_runs_already_is_kept() -> None:
    session = RaySession(RaySettings())
    session.wait()
    session.close()
    assert ray.is_initialized()


def test_a_cluster_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("no Ray cluster at 192.0.2.1")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    session = RaySession(RaySettings(address="192.0.2.1:6379"))
    with pytest.raises(ConnectionError, match="no Ray cluster"):
        session.wait()
    session.close()


def test_a_start_that_stays_too_slow_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[dict[str, object]] = []

    def init(**options: object) -> None:
        attempts.append(options)
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Exception, match="timed out during startup"):
        RaySession(RaySettings()).wait()
    assert len(attempts) == START_ATTEMPTS


def test_a_start_that_is_too_slow_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def init(**options: object) -> None:
        asked.append(options)
        if len(asked) < 2:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    RaySession(RaySettings(preparers=40, generators=2)).wait()
    assert len(asked) == 2
    assert asked[0]["address"] == "local" and asked[0]["include_dashboard"] is False
    assert int(str(asked[0]["num_cpus"])) >= 42, "room for every actor on a machine with few cores"
