"""A run killed at every call of its commit path, and three runs at once: rows planned are rows visible."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from pinco.catalog.delivery.images import key_of_image
from pinco.catalog.manifest.history import history
from pinco.catalog.manifest.pending import PENDING, image_of
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import StoreAccess
from pinco.catalog.store.base import Store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("commit_path.py")
JOBS = 3  # two appends: one because two rows are there, one at the end
RUNS = ("red", "green", "blue")


def start(*words: object) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    out, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, list[object], StoreAccess]:
    """Where stores go, the words that say how to reach them, and the access."""
    if request.param == "folder":
        return str(tmp_path / "stores"), [], StoreAccess()
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = f"bucket-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}", ["--endpoint", endpoint], StoreAccess(endpoint)


def check(store: Store, jobs: int) -> None:
    """Rows planned = rows visible, none lost, none twice, and each with its own whole image."""
    rows = read_rows(ManifestTable(store))
    assert len(rows) == len({row.job_id for row in rows}) == jobs
    assert sum(version.rows for version in history(store)) == jobs, "no job was appended twice"
    for row in rows:
        assert hashlib.sha256(store.get(key_of_image(str(row.image_uri)))).hexdigest() == row.image_sha256


def test_a_run_killed_at_every_call_is_made_good_by_the_next(place: tuple[str, list[object], StoreAccess]) -> None:
    stores, reached, access = place
    *outcomes, whole = said(start(stores, JOBS, *reached))
    assert len(outcomes) == whole["calls"] >= 20, "every call had its turn"
    for outcome in outcomes:
        store = access.open(outcome["store"])
        check(store, JOBS)
        assert len(outcome["made"]) == JOBS - outcome["left"], "no image that was there is made again"
        assert sum(1 for _ in store.list("images/")) == JOBS
        assert [info.key for info in store.list(PENDING) if store.head(image_of(info.key))] == []
    assert {outcome["left"] for outcome in outcomes} == {0, 1, 2, 3}
    assert {outcome["adopted"] for outcome in outcomes} >= {0, 1, 2}


def test_three_runs_at_once_leave_one_row_per_job(place: tuple[str, list[object], StoreAccess]) -> None:
    stores, reached, access = place
    jobs, store = 40, f"{stores}/shared"
    processes = [start(store, jobs, "--run", name, *reached) for name in RUNS]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "planned\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ((red,), (green,), (blue,)) = [said(process) for process in processes]
    check(access.open(store), jobs)
    assert [len(one["made"]) for one in (red, green, blue)] == [jobs] * 3, "each had the whole sheet to make"
    assert sum(one["dropped"] for one in (red, green, blue)) == 2 * jobs
    assert len({version.run for version in history(access.open(store)) if version.rows}) > 1, "they did meet"
