from __future__ import annotations

import subprocess
import sys
import time

import pytest
import ray

from flows.driver import ray_session
from flows.driver.endings import RayDiedError
from flows.driver.ray_session import START_ATTEMPTS, RaySession
from flows.settings import RaySettings

PROGRAM = """
import gc, os, time, psutil
from flows.driver.ray_session import START_ATTEMPTS, RaySession
from flows.settings import RaySettings
session = RaySession(RaySettings(object_store_mib=100))
session.wait()
import ray
gc.collect()
print(ray.get(ray.remote(num_cpus=1)(lambda: 6 * 7).remote()))
servers = psutil.Process().children(recursive=True)
ports = [c.laddr.ip for p in [psutil.Process(), *servers] for c in p.net_connections() if c.status == "LISTEN"]
print(len(ports) > 3, {ip for ip in ports if not ip.endswith("127.0.0.1")})
folder = session._folder.path
session.close()
gone, alive = psutil.wait_procs(servers, timeout=30)
print(ray.is_initialized(), len(servers) > 1, [process.name() for process in alive], os.path.exists(folder))
"""


@pytest.mark.slow
def test_ray_is_started_used_and_left_without_a_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240)
    assert done.stdout.split("\n")[:3] == ["42", "True set()", "False True [] False"], done.stderr


DYING = """
import sys, time, psutil
from flows.driver.ray_session import RaySession
from flows.settings import RaySettings
session = RaySession(RaySettings(object_store_mib=100))
session.wait()
session.check()
next(child for child in psutil.Process().children() if child.name() == sys.argv[1]).kill()
began = time.monotonic()
while True:
    try:
        session.check()
    except Exception as error:
        print(type(error).__name__)
        break
    time.sleep(0.1)
    assert time.monotonic() < began + 20
session.close()
print([child.name() for child in psutil.Process().children(recursive=True)], time.monotonic() < began + 50)
"""


@pytest.mark.slow
@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_a_ray_that_died_is_noticed_and_left(server: str) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, server], capture_output=True, text=True, timeout=240)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("RayDied", "["))]
    assert (lines[0], lines[-1]) == ("RayDiedError", "[] True"), done.stdout + done.stderr


def test_a_cluster_that_stops_answering_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray_session, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(ray_session, "ASK_SECONDS", 0.02)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}])
    session = RaySession(RaySettings(address="ray://head:10001"))
    session.wait()
    time.sleep(0.4)
    session.check()
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": False}])
    time.sleep(0.4)
    with pytest.raises(RayDiedError, match="ray://head:10001 has not answered"):
        session.check()
    session._closed.set()  # its thread asks no more


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
