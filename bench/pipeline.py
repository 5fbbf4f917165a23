"""Images per second of the flow against a plain Python loop that does the same work in one process.

    python bench/pipeline.py [--images 64] [--actors 2] [--backbone DIR --adapter DIR]

The loop calls the very functions that the actors call (``pinco.generation.steps``), one after the other: what the flow
adds is two kinds of processes, Ray between them, and the driver. Both make the images of one product more first; these
warm up and are not counted. Beside the ratio stand every process's share of a CPU while the counted images were
made, and its peak memory (resident; pages of the object store that several processes map are counted in each of them).
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from flows.driver.run import run_stages
from flows.planning import CatalogRequest, plan_run, run_spec
from flows.settings import Settings, load_settings
from pinco.catalog.manifest.adoption import commit_rows
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import open_store
from pinco.generation.cutouts import CutoutCache
from pinco.generation.steps import make_rows, prepare
from pinco.generation.take import Take, in_batches
from pinco.toy.drawing.photos import write_demo_photos

PER_PRODUCT = 8
PLACES = (
    "on a wooden table", "on marble", "on green grass", "on sand",
    "in front of a brick wall", "in a blue studio", "in the snow", "in a city at night",
)  # fmt: skip


@dataclass
class Sampler:
    """CPU seconds and peak resident memory of this process and all its children, by name, four times a second."""

    seconds: float = 0.25
    cpu: dict[str, dict[float, float]] = field(default_factory=lambda: defaultdict(dict))
    peak: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __enter__(self) -> Sampler:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def share(self, name: str, start: float, end: float) -> float:
        """CPU seconds per second between two wall clock times."""
        inside = {at: spent for at, spent in self.cpu[name].items() if start <= at <= end}
        if len(inside) < 2:
            return 0.0
        first, last = min(inside), max(inside)
        return (inside[last] - inside[first]) / (last - first)

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(self.seconds):
            now = time.time()
            for process in [me, *me.children(recursive=True)]:
                try:
                    name, times, memory = _name(process, me), process.cpu_times(), process.memory_info().rss
                except (psutil.NoSuchProcess, psutil.ZombieProcess):
                    continue
                self.cpu[name][now] = self.cpu[name].get(now, 0.0) + times.user + times.system
                self.peak[name] = max(self.peak[name], memory)


def _name(process: psutil.Process, me: psutil.Process) -> str:
    if process.pid == me.pid:
        return "driver"
    title = (process.cmdline() or [process.name()])[0]
    return title.split(".")[0] if title.startswith("ray::") else process.name()


def write_shop(folder: Path, images: int) -> CatalogRequest:
    """Photos of drawn products and a sheet of eight places each, one product more than is counted."""
    photos = write_demo_photos(folder / "photos", images // PER_PRODUCT + 1, seed=0)
    with (folder / "sheet.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "prompt"])
        rows.writerows([photo.stem, place] for photo in photos for place in PLACES)
    return CatalogRequest(str(folder / "sheet.csv"), str(folder / "photos"), str(folder / "flow"))


def run_loop(request: CatalogRequest, settings: Settings, store_uri: str) -> list[Row]:
    """The same work in this process, in the same order and the same batches."""
    from pinco.generation.model import Model  # here, so that the flow's driver is measured without torch

    spec = run_spec("loop", store_uri, settings)
    store = spec.open_store()
    table = ManifestTable(store)
    plan = plan_run(CatalogRequest(request.sheet, request.catalog, store_uri), settings, table)
    model, cutouts = Model(settings.model, threads=settings.ray.threads), CutoutCache(store, spec.recipe)
    rows: list[Row] = []
    for batches in in_batches([Take.first(job) for job in plan.work], settings.ray.batch_rows):
        for takes in batches:
            placed = prepare(takes[0].job, spec, cutouts)
            rows += make_rows(takes, placed, model, spec, store)
    commit_rows(table, rows, run_id=spec.run_id, batch=1, base=plan.base)
    return rows


def counted(rows: list[Row]) -> tuple[float, datetime, datetime]:
    """Images per second after the first product's, and when that was."""
    made = sorted(row.created_at for row in rows if row.image_uri)
    if len(made) != len(rows):
        raise SystemExit(
            f"{len(rows) - len(made)} rows failed: {next(r.error_message for r in rows if not r.image_uri)}"
        )
    start, end = made[PER_PRODUCT - 1], made[-1]
    return (len(made) - PER_PRODUCT) / (end - start).total_seconds(), start, end


def run_flow(request: CatalogRequest, settings: Settings) -> tuple[float, Sampler, datetime, datetime]:
    """Images per second of a run, what its processes took, and when the counted images were made."""
    with Sampler() as sampler:
        summary = run_stages(request, settings)
    if summary.error is not None:
        raise summary.error
    speed, start, end = counted(read_rows(ManifestTable(open_store(request.store))))
    return speed, sampler, start, end


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--actors", type=int, default=2, help="inference actors of the second flow; 1 leaves it out")
    parser.add_argument("--backbone")
    parser.add_argument("--adapter")
    arguments = parser.parse_args()
    weights = {"model__backbone": arguments.backbone, "model__adapter": arguments.adapter, "ray__threads": 1}
    settings = load_settings(**weights, ray__generators=1)
    with tempfile.TemporaryDirectory() as folder:
        request = write_shop(Path(folder), arguments.images)
        flow, sampler, start, end = run_flow(request, settings)
        with Sampler() as alone:
            loop, _, _ = counted(run_loop(request, settings, str(Path(folder) / "loop")))
        many = None
        if arguments.actors > 1:
            wider = CatalogRequest(request.sheet, request.catalog, str(Path(folder) / "many"))
            many, *_ = run_flow(wider, load_settings(**weights, ray__generators=arguments.actors))

    table = Table("process", "CPU share", "peak MiB", title=f"{arguments.images} images on {os.cpu_count()} cores")
    for name in sorted(sampler.peak):
        share = sampler.share(name, start.timestamp(), end.timestamp())
        table.add_row(name, f"{share:.0%}", f"{sampler.peak[name] / 2**20:.0f}")
    table.add_row("(plain loop)", "", f"{alone.peak['driver'] / 2**20:.0f}")
    console = Console()
    console.print(table)
    console.print(f"flow {flow:.2f} images/s, plain loop {loop:.2f} images/s, ratio {flow / loop:.2f} (bar: 0.95)")
    if many is not None:
        console.print(f"{arguments.actors} actors {many:.2f} images/s, over one {many / flow:.2f} (bar for two: 1.7)")


if __name__ == "__main__":
    main()
