"""One run's commit path in processes of their own, which are killed with `kill -9` at a chosen call.

    python commit_path.py STORES JOBS [--endpoint URL]            every call in turn, each in a store of its own
    python commit_path.py STORE JOBS --run NAME [--endpoint URL]  one run that nobody kills, with the jobs in
                                                                  an order of its own; planned, it waits for a
                                                                  line of input

Everything between a finished image and its visible row is real: `keep_image` as the workers do it, the Recorder, the
table, adoption, planning and compaction. Only the image is made of a few bytes. In a folder every call of the store and
of the table's library is counted; on S3 every request that either of them sends. Process number k is killed when call
k has done its work, before it hears of that; then a second run finishes the sheet. For every k one line of JSON says
what became of it, and the last line how many calls a run has.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from deltalake import DeltaTable
from deltalake.table import TableOptimizer
from killing_proxy import KillingProxy

from flows.driver.recorder import Recorder
from flows.settings import CommitSettings, FailureSettings
from pinco.catalog.delivery.images import image_key
from pinco.catalog.ids.job import Job
from pinco.catalog.manifest import table
from pinco.catalog.manifest.adoption import adopt_pending
from pinco.catalog.manifest.pending import keep_image
from pinco.catalog.manifest.readers import job_states
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import compact
from pinco.catalog.store.access import StoreAccess
from pinco.catalog.store.base import Store
from pinco.catalog.store.local import LocalStore
from preprocessing.canvas import Placement

STORE_CALLS = ("get", "head", "put_if_absent", "list", "delete_many")
TABLE_CALLS = (
    "__init__",
    "create",
    "update_incremental",
    "to_pyarrow_dataset",
    "create_checkpoint",
    "transaction_version",
)


class Countdown:
    """Counts calls from all threads, and kills this process at one of them (0: at none)."""

    def __init__(self, kill_at: int) -> None:
        self.calls, self._kill_at = 0, kill_at
        self._lock = threading.Lock()

    def wrap(self, owner: Any, name: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(call)
        def counted(*args: Any, **options: Any) -> Any:
            result = call(*args, **options)
            if name == "list":
                result = iter(list(result))  # a listing is made when it is asked for, not when it is read
            with self._lock:
                self.calls += 1
                if self.calls == self._kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, counted)

    def wrap_all(self) -> None:
        for name in STORE_CALLS:
            self.wrap(LocalStore, name)
        for name in TABLE_CALLS:
            self.wrap(DeltaTable, name)
        self.wrap(TableOptimizer, "compact")
        self.wrap(table, "write_deltalake")


def job(number: int) -> Job:
    return Job.planned(
        row=number + 2,
        source_uri="ball.png",
        sku=f"{number:04d}",
        source_sha256="ab" * 32,
        prompt="on grass",
        negative=None,
        channel="square",
        placement=Placement("original", None, 0.08),
        working_size=(64, 64),
        delivery_size=(96, 96),
        variant=0,
        seed=None,
    )


def make(store: Store, asked: Job, run_id: str) -> Row:
    """A worker's part: image and row are in the store when it returns. Every run makes other bytes, as GPUs do."""
    time.sleep(0.01)  # images take a while, so that runs that began together stay together
    file = f"image of {asked.sku} by {run_id}".encode()
    sha256 = hashlib.sha256(file).hexdigest()
    generation_id = hashlib.sha256(asked.job_id.encode()).hexdigest()
    row = Row.of(
        asked,
        run_id=run_id,
        status="ok",
        attempts=1,
        generation_id=generation_id,
        image_uri=store.uri_of(image_key(generation_id, sha256, "png")),
        image_sha256=sha256,
        recipe="{}",
    )
    keep_image(store, row, file, "png")
    return row


def run(store: Store, run_id: str, asked: list[Job], planned: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Adopt, plan, make, append every two rows, and compact: the stages of a run without its model."""
    manifest = ManifestTable(store)
    adopted = adopt_pending(manifest, run_id)
    states = job_states(manifest, [one.job_id for one in asked])
    recorder = Recorder(
        manifest,
        run_id,
        base=manifest.version,
        commit=CommitSettings(rows=2, seconds=3600),
        failures=FailureSettings(),
    )
    planned()
    made = [one.sku for one in asked if one.job_id not in states.done]
    for one in asked:
        if one.job_id not in states.done:
            recorder.add([make(store, one, run_id)])
            recorder.tick()
    recorder.commit()
    compact(manifest)
    return {"made": made, "adopted": adopted, "dropped": recorder.dropped}


def in_child(store: str, run_id: str, jobs: int, kill_at: int, proxy: KillingProxy | None) -> dict[str, Any]:
    """A run in a forked process: {"killed": True}, or what it says at its end, and its number of calls."""
    reading, writing = os.pipe()
    waiting, starting = os.pipe()
    if (child := os.fork()) == 0:
        os.read(waiting, 1)
        countdown = Countdown(kill_at)
        if proxy is None:
            countdown.wrap_all()
        done = run(
            StoreAccess(proxy.endpoint if proxy else None).open(store), run_id, [job(number) for number in range(jobs)]
        )
        os.write(writing, json.dumps(done | {"calls": countdown.calls}).encode())
        os._exit(0)
    if proxy is not None:
        proxy.watch(child, kill_at)
    os.write(starting, b"1")
    for end in (writing, waiting, starting):
        os.close(end)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return {"killed": True}
    assert os.waitstatus_to_exitcode(status) == 0, "the run failed, see above"
    return {"killed": False, **json.loads(said), **({"calls": proxy.requests} if proxy else {})}


def meet() -> None:
    """Say that the plan is made, and wait for the others."""
    print("planned", flush=True)
    sys.stdin.readline()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stores")
    parser.add_argument("jobs", type=int)
    parser.add_argument("--run")
    parser.add_argument("--endpoint")
    given = parser.parse_args()
    access = StoreAccess(given.endpoint)
    if given.run:
        asked = [job(number) for number in range(given.jobs)]
        random.Random(given.run).shuffle(asked)
        print(json.dumps(run(access.open(given.stores), given.run, asked, meet)))
        return
    proxy = KillingProxy(given.endpoint) if given.endpoint else None
    for kill_at in itertools.count(1):
        store = f"{given.stores}/{kill_at}"
        first = in_child(store, "first", given.jobs, kill_at, proxy)
        if not first["killed"]:
            print(json.dumps({"calls": first["calls"]}))
            return
        left = sum(1 for _ in access.open(store).list("images/"))
        second = in_child(store, "second", given.jobs, 0, proxy)
        print(json.dumps({"store": store, "left": left, **second}), flush=True)


if __name__ == "__main__":
    main()
