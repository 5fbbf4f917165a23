"""The deployment of infra/prefect.yaml on a real Prefect server: deployed, picked up by a worker, run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for member in family:
            if member.is_running():
                member.kill()
    process.wait()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, small: Any) -> dict[str, str]:
    """Settings of server, worker and flow run, all by environment, as infra/prefect.yaml says."""
    return os.environ | {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PINCO_HOME": str(ROOT),
        "PINCO_MODEL__BACKBONE": str(small.model.backbone),
        "PINCO_MODEL__ADAPTER": str(small.model.adapter),
        "PINCO_MODEL__STEPS": "2",
        "PINCO_MODEL__WORKING_PIXELS": str(small.model.working_pixels),
        "PINCO_RAY__OBJECT_STORE_MIB": "100",
        "PINCO_CHANNELS": '{"small": {"size": "96x96"}}',
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def server(environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: httpx.get(f"{address}/health", timeout=5).status_code == 200, process, 180)
        yield address
    finally:
        end(process)


def wait_for(met: Any, process: subprocess.Popen[Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        try:
            if met():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise AssertionError(f"{process.args} was not there after {seconds:.0f} s")


def prefect(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        ["prefect", "--no-prompt", *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(api: str, path: str, **body: Any) -> Any:
    return httpx.post(f"{api}/{path}", json=body, timeout=30).raise_for_status().json()


def runs_of(server: str, deployment: str) -> list[dict[str, Any]]:
    """The flow runs of a deployment, the earliest first."""
    runs: list[dict[str, Any]] = ask(
        server, "flow_runs/filter", deployments={"id": {"any_": [deployment]}}, sort="EXPECTED_START_TIME_ASC"
    )
    return runs


def wait_until(met: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


def test_the_nightly_catalog_is_deployed_scheduled_and_run(server: str, environment: dict[str, str], shop: Any) -> None:
    shop.photo("ball", 40)
    sheet = shop.sheet([{"sku": "ball", "prompt": prompt} for prompt in ("on grass", "on sand")])
    environment = environment | {
        "PREFECT_API_URL": server,
        "NIGHTLY_SHEET": sheet,
        "NIGHTLY_CATALOG": shop.catalog,
        "NIGHTLY_STORE": shop.store,
    }
    prefect(environment, "work-pool", "create", "pinco", "--type", "process")
    prefect(environment, "deploy", "--prefect-file", "infra/prefect.yaml", "--name", "nightly-catalog")
    deployment = httpx.get(f"{server}/deployments/name/catalog/nightly-catalog", timeout=30).raise_for_status().json()
    (schedule,) = deployment["schedules"]
    assert (schedule["active"], schedule["schedule"]["cron"]) == (True, "0 1 * * *")
    assert deployment["parameters"] == {"sheet": sheet, "catalog": shop.catalog, "store": shop.store}

    wait_until(lambda: bool(runs_of(server, deployment["id"])), 120)  # "Upcoming" in the UI: the scheduler works
    night = runs_of(server, deployment["id"])[0]
    assert (night["auto_scheduled"], night["state"]["type"]) == (True, "SCHEDULED")

    every_minute = [{"schedule": {"cron": "* * * * *", "timezone": "UTC"}, "active": True}]
    httpx.post(f"{server}/deployments/{deployment['id']}/schedules", json=every_minute, timeout=30).raise_for_status()
    worker = subprocess.Popen(
        ["prefect", "worker", "start", "--pool", "pinco"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    ended: list[dict[str, Any]] = []

    def a_run_ended() -> bool:
        final = ("COMPLETED", "FAILED", "CRASHED")
        ended[:] = [run for run in runs_of(server, deployment["id"]) if run["state"]["type"] in final]
        return bool(ended)

    try:
        wait_for(a_run_ended, worker, 300)
    finally:
        end(worker)
    run = ended[0]
    assert (run["auto_scheduled"], run["state"]["type"]) == (True, "COMPLETED"), "nobody but the schedule started it"
    assert sorted(row.prompt for row in shop.rows()) == ["on grass", "on sand"]

    flow_run = run["id"]
    tasks = ask(server, "task_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
    assert sorted(task["name"].rpartition("-")[0] for task in tasks) == ["make", "plan", "report"]
    artifacts = ask(server, "artifacts/filter", artifacts={"flow_run_id": {"any_": [flow_run]}})
    kinds = {artifact["type"]: artifact for artifact in artifacts}
    assert kinds["progress"]["data"] == 100.0, "the heartbeat"
    assert "2 of 2" in kinds["progress"]["description"]
    assert "2 planned" in kinds["markdown"]["data"]
