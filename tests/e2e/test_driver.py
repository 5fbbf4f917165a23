"""Drivers that are interrupted, killed, or not alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_running")]

IMAGES = 24


@contextmanager
def driver(shop: Any, sheet: str, *, commit_rows: int) -> Iterator[subprocess.Popen[str]]:
    """``pinco run`` in a process group of its own, as a terminal starts it, with a Ray of its own."""
    model = shop.settings.model
    environment = os.environ | {
        "PINCO_MODEL__BACKBONE": str(model.backbone),
        "PINCO_MODEL__ADAPTER": str(model.adapter),
        "PINCO_MODEL__STEPS": "8",
        "PINCO_MODEL__WORKING_PIXELS": str(model.working_pixels),
        "PINCO_RAY__BATCH_ROWS": "1",
        "PINCO_RAY__OBJECT_STORE_MIB": "100",
        "PINCO_COMMIT__ROWS": str(commit_rows),
        "PINCO_COMMIT__SECONDS": "3600",
        "PINCO_CHANNELS": '{"small": {"size": "96x96"}}',
    }
    command = [sys.executable, "-m", "flows.cli", "run", sheet, "--catalog", shop.catalog, "--store", shop.store]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    family = [psutil.Process(process.pid)]
    try:
        yield process
    finally:
        for member in family:
            if member.is_running():
                family += member.children(recursive=True)
        for member in family:
            if member.is_running():
                member.kill()
        process.wait()


def wait_until(met: Any, process: subprocess.Popen[str], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the driver made nothing in time"
        time.sleep(0.05)


def sheet_of(shop: Any) -> str:
    shop.photo("ball", 40)
    return shop.sheet([{"sku": "ball", "prompt": "a ball on grass", "n": IMAGES}])


def test_ctrl_c_commits_what_is_finished_and_leaves(shop: Any) -> None:
    sheet = sheet_of(shop)
    with driver(shop, sheet, commit_rows=1000) as process:
        wait_until(lambda: shop.images() >= 2, process)
        assert shop.appends() == []
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to everything that the terminal runs
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "the next run makes them" in output
    assert 1 <= len(shop.rows()) < IMAGES
    assert all(row.image_uri for row in shop.rows())


def test_after_kill_9_the_next_run_makes_only_what_is_not_there(shop: Any) -> None:
    sheet = sheet_of(shop)
    with driver(shop, sheet, commit_rows=2) as process:
        wait_until(lambda: len(shop.appends()) >= 1, process)
        process.kill()
        process.wait()
        before = {row.job_id: row.generation_id for row in shop.rows()}
    there = shop.images()
    assert 0 < len(before) <= there < IMAGES
    model = shop.settings.model.model_copy(update={"steps": 8})
    summary = shop.with_settings(model=model).run(sheet)
    rows = {row.job_id: row for row in shop.rows()}
    assert summary.error is None
    assert summary.made + summary.adopted + len(before) == IMAGES == len(rows)
    assert {job: rows[job].generation_id for job in before} == before
    assert summary.made == IMAGES - there, "no image that was there is made again"
    assert shop.images() == IMAGES == len({row.image_uri for row in rows.values()})
    assert sum(row.run_id == summary.run_id for row in rows.values()) == summary.made


def test_two_runs_at_once_leave_one_row_per_job(shop: Any) -> None:
    shop.photo("ball", 40)
    sheet = shop.sheet([{"sku": "ball", "prompt": prompt, "n": 2} for prompt in ("on grass", "on sand")])
    with ThreadPoolExecutor(2) as pool:
        summaries = list(pool.map(lambda _: shop.run(sheet), range(2)))
    rows = shop.rows()
    assert [summary.error for summary in summaries] == [None, None]
    assert len(rows) == len({row.job_id for row in rows}) == 4
    assert sum(rows for _, rows in shop.appends()) == 4, "no job was appended twice"
    assert sum(summary.made - summary.dropped for summary in summaries) == 4


def test_a_dead_raylet_ends_the_run_soon_with_what_is_finished_committed(shop: Any) -> None:
    sheet = sheet_of(shop)
    with driver(shop, sheet, commit_rows=1000) as process:
        wait_until(lambda: shop.images() >= 2, process)
        raylet = next(child for child in psutil.Process(process.pid).children() if child.name() == "raylet")
        family = psutil.Process(process.pid).children(recursive=True)
        began = time.monotonic()
        raylet.kill()
        output, _ = process.communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert process.returncode == 3, output
    assert "Ray's process" in output and "ended unexpectedly" in output
    assert len(shop.rows()) >= 2 and all(row.image_uri for row in shop.rows())
    _, alive = psutil.wait_procs(family, timeout=30)
    assert [member.name() for member in alive] == []
