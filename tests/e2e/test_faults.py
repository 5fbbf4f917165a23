"""Actors that die in mid-run, and rows that kill them. The faults are in actors of the tests' own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import ray

from flows.driver import making
from flows.driver.actors import Generator
from flows.settings import FailureSettings, RaySettings
from pinco.catalog.manifest.schema import Row
from pinco.catalog.store.access import open_store
from pinco.catalog.store.base import StoreError
from pinco.generation.steps import PlacedProduct
from pinco.generation.take import Take

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_running")]

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file


class SlowGenerator(Generator):
    """Says who it is and gives the test a moment to end it, before its second batch."""

    def generate(self, takes: Sequence[Take], placed: PlacedProduct, attempts: int) -> list[Row]:
        pids = Path(self._spec.store_uri).parent / "pids"
        if any(True for _ in self._store.list("images/")):
            with pids.open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(1.5)
        return super().generate(takes, placed, attempts)


class PoisonedGenerator(Generator):
    """Dies of one prompt. Loads its weights only when it gets past that, so that its deaths are quick."""

    def load(self) -> None:
        return

    def generate(self, takes: Sequence[Take], placed: PlacedProduct, attempts: int) -> list[Row]:
        if any("poison" in take.job.prompt for take in takes):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._model is None:
            super().load()
        return super().generate(takes, placed, attempts)


class FaultyGenerator(PoisonedGenerator):
    """Its store is gone."""

    def generate(self, takes: Sequence[Take], placed: PlacedProduct, attempts: int) -> list[Row]:
        raise StoreError("the bucket does not answer")


@pytest.mark.parametrize("overlap", [False, True])
def test_an_actor_ended_by_kill_9_costs_no_image(shop: Any, overlap: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_overlaps", lambda gpus: overlap)
    shop.photo("ball", 40)
    shop.photo("disc", 200)
    sheet = shop.sheet(
        [
            {"sku": sku, "prompt": prompt}
            for sku in ("ball", "disc")
            for prompt in ("on grass", "on sand", "in the snow")
        ]
    )
    killed: list[int] = []

    def kill_once() -> None:
        pids = Path(shop.store).parent / "pids"
        while not pids.exists() or not pids.read_text().strip():
            time.sleep(0.05)
        killed.append(int(pids.read_text().split()[0]))
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill_once, daemon=True).start()
    shop = shop.with_settings(ray=RaySettings(object_store_mib=200, batch_rows=2))
    summary = shop.run(sheet, generator=SlowGenerator)
    rows = shop.rows()
    assert killed, "the test has to have killed an actor"
    assert summary.error is None
    assert [row.status for row in rows if row.status in ("failed", "quarantined")] == []
    assert len(rows) == len({row.job_id for row in rows}) == 6
    assert len(list(open_store(shop.store).list("images/"))) == 6, "nothing is made twice"
    assert max(row.attempts for row in rows) == 2 and min(row.attempts for row in rows) == 1


@pytest.mark.parametrize("overlap", [False, True])
def test_a_row_that_always_kills_its_worker_is_quarantined_alone_and_can_be_retried(
    shop: Any, overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_overlaps", lambda gpus: overlap)
    shop.photo("ball", 40)
    prompts = ["on grass", "poison", "on sand"]
    sheet = shop.sheet([{"sku": "ball", "prompt": prompt} for prompt in prompts])
    summary = shop.run(sheet, generator=PoisonedGenerator)
    rows = {row.prompt: row for row in shop.rows()}
    assert summary.error is None
    assert set(rows) == set(prompts)
    assert rows["poison"].status == "quarantined"
    assert rows["poison"].attempts == 3, "once among others, then twice alone"
    assert "2 workers" in str(rows["poison"].error_message)
    assert all(rows[prompt].image_uri for prompt in ("on grass", "on sand"))

    again = shop.run(sheet)
    assert (again.made, again.held) == (0, 1), "the next night leaves it alone"

    retried = shop.retry(summary.run_id)  # with actors that do not mind poison
    (row,) = [row for row in shop.rows() if row.prompt == "poison"]
    assert (retried.made, row.image_uri is not None) == (1, True)
    assert row.seed != row.job().seed, "a retry takes another seed"


def test_bad_photos_at_the_head_of_a_sheet_end_no_run_and_a_broken_system_does(shop: Any) -> None:
    for number in range(6):
        (Path(shop.catalog) / f"broken{number}.jpg").write_bytes(b"no photo")
    shop.photo("ball", 40)
    shop = shop.with_settings(failures=FailureSettings(share=0.5, rows=4))
    bad = [{"sku": f"broken{number}", "prompt": "on grass"} for number in range(6)]
    summary = shop.run(shop.sheet([*bad, {"sku": "ball", "prompt": "on grass"}]))
    assert summary.error is None
    assert sorted(row.status == "failed" for row in shop.rows()) == [False] + 6 * [True]

    prompts = [f"on grass {number}" for number in range(12)]
    summary = shop.run(shop.sheet([{"sku": "ball", "prompt": prompt} for prompt in prompts]), generator=FaultyGenerator)
    assert type(summary.error).__name__ == "TooManyFailuresError"
    failed = [row for row in shop.rows() if row.error_type == "store_error"]
    assert 4 <= len(failed) < len(prompts), "what was finished is committed, and the rest is left"
    assert all(row.transient for row in failed)
