"""The manifest with years of history: how long a plan, a night's appends and one look-up take, and how that grows.

    python bench/manifest.py [--history 36500000] [--jobs 1000000] [--night 1000000] [--folder DIR]

History is generated, a million rows a file and as compaction writes them: random ids and hashes, texts of a few
thousand patterns, one row in a hundred a failure. Half of the planned jobs are in it. Every figure is taken in a
process of its own, with its peak memory (resident). DIR needs about 350 bytes a row, and is deleted afterwards.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake
from PIL import Image
from rich.console import Console
from rich.table import Table

from flows.driver.recorder import Recorder
from flows.planning import CatalogRequest, plan_run
from flows.settings import CommitSettings, FailureSettings, Settings
from pinco.catalog.manifest.readers import find_generation, job_states
from pinco.catalog.manifest.schema import SCHEMA, Row, to_rows
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import COMPACTED, compact
from pinco.catalog.store.access import open_store

GROWTH = (10_000, 100_000, 1_000_000, 10_000_000)
FILE_ROWS = 1_000_000
PER_PROMPT = 8  # images of one sheet row
PRODUCTS = 1000
_HEX = np.array([f"{byte:02x}".encode() for byte in range(256)]).view(np.uint16)
_SKUS = 50_000


@dataclass(frozen=True)
class Figure:
    """A measured time in seconds, the peak memory of its process in GiB, and processor seconds where they are counted.

    On a machine that others use too, the processor seconds are what can be compared.
    """

    seconds: float
    gib: float
    note: str = ""
    cpu: float | None = None


# -- rows ----------------------------------------------------------------------------------------------------------


def hashes(rng: np.random.Generator, count: int) -> pa.Array:
    """Random texts of 64 hexadecimal digits."""
    digits = np.ascontiguousarray(_HEX[rng.integers(0, 256, (count, 32), dtype=np.uint8)])
    offsets = np.arange(0, (count + 1) * 64, 64, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(digits))


def night(number: int, count: int, sequence: int, jobs: pa.Array | None = None) -> pa.Table:
    """One night's rows, as a run of a large backbone leaves them. jobs: their ids, if they are not to be random."""
    rng = np.random.default_rng(number)
    job = hashes(rng, count) if jobs is None else jobs
    generation, file, pixels = (hashes(rng, count) for _ in range(3))
    which = pa.array(rng.integers(0, _SKUS, count))
    sku = pa.array([f"SKU-{n:06d}" for n in range(_SKUS)]).take(which)
    source = hashes(np.random.default_rng(0), _SKUS).take(which)
    prompt = pa.array(_prompts()).take(pa.array(rng.integers(0, len(_prompts()), count)))
    seed = pa.array(rng.integers(0, 2**32, count))
    made = pa.array(rng.random(count) >= 0.01)
    uri = _text("s3://catalog/spring/images/", generation, "-", pc.utf8_slice_codeunits(file, 0, 16), ".png")
    columns: dict[str, Any] = {
        "job_id": job,
        "run_id": f"20260101T010000-{number:06d}",
        "row": pa.array(np.arange(2, count + 2, dtype=np.int32)),
        "sku": sku,
        "source_uri": _text("s3://photos/spring/", sku, ".jpg"),
        "source_sha256": source,
        "prompt": prompt,
        "negative": "blurry, text, watermark",
        "channel": "web",
        "placement": "original",
        "placement_padding": 0.08,
        **dict.fromkeys(("working_width", "working_height", "delivery_width", "delivery_height"), 1024),
        "variant": 0,
        "seed": seed,
        "status": pc.if_else(made, pa.array(np.where(rng.random(count) < 0.02, "review", "ok")), "failed"),
        "error_type": pc.if_else(made, None, "empty_photo"),
        "error_message": pc.if_else(made, None, "The photo is empty."),
        "transient": False,
        "attempts": 1,
        "not_scored": pa.array([[]], SCHEMA.field("not_scored").type).take(pa.array(np.zeros(count, np.int64))),
        "created_at": pa.array(
            np.int64(1767225600_000000) + number % 3650 * 86400_000000 + np.arange(count) * 10_000, SCHEMA.types[-2]
        ),
        "sequence": sequence,
    }
    only_made: dict[str, Any] = {
        "generation_id": generation,
        "image_uri": uri,
        "image_sha256": file,
        "pixels_sha256": pixels,
        "width": 1024,
        "height": 1024,
        "format": "png",
        "core_identical": True,
        "extension": pa.array(np.round(rng.random(count) * 0.1, 6)),
        "shrinkage": pa.array(np.round(rng.random(count) * 0.1, 6)),
        "mask_method": "backdrop-2",
        "mask_confidence": pa.array(np.round(rng.random(count), 4)),
        "backbone": "/models/FLUX.1-dev",
        "backbone_sha256": "cd" * 32,
        "adapter_sha256": "ab" * 32,
        "recipe": _recipe(job, sku, source, prompt, seed.cast(pa.string())),
        "device": "cuda",
        "threads": 1,
        "environment": json.dumps({"torch": "2.13.0", "diffusers": "0.42.0", "processor": "x86_64"}),
        "seconds": pa.array(np.round(3 + rng.random(count), 3)),
    }
    arrays = []
    for field in SCHEMA:
        value = columns.get(field.name, only_made.get(field.name))
        if not isinstance(value, pa.Array | pa.ChunkedArray):
            value = pa.repeat(pa.scalar(value, field.type), count)
        if field.name in only_made:
            value = pc.if_else(made, value, pa.scalar(None, value.type))
        arrays.append(value.cast(field.type))
    return pa.table(arrays, schema=SCHEMA)


def _prompts() -> list[str]:
    places = ("on oak", "on marble", "on sand", "in snow", "on grass", "by a window", "on a shelf", "on slate")
    moods = ("soft shadows", "hard light", "film grain")
    return [f"a product {place} at {hour} o'clock, {mood}" for place in places for hour in range(24) for mood in moods]


def _text(*pieces: Any) -> pa.Array:
    return pc.binary_join_element_wise(*pieces, "")


def _recipe(job: pa.Array, sku: pa.Array, source: pa.Array, prompt: pa.Array, seed: pa.Array) -> pa.Array:
    sizes = '"delivery_size":[1024,1024],"working_size":[1024,1024]'
    ask = f'"channel":"web","negative":null,"placement":{{"kind":"original","padding":0.08,"scale":null}},{sizes}'
    how = (
        f'"adapter_scale":1.0,"adapter_sha256":"{"ab" * 32}","backbone_sha256":"{"cd" * 32}","blending":true,'
        '"code_recipe":1,"cutout_recipe":"0123456789abcdef","dtype":"bfloat16","format":"png","guidance":3.5,'
        '"max_sequence_length":512,"profile":"source","prune":true,"quality":92,"scheduler":"FlowMatchEuler",'
        f'"shadow":"none","steps":28,"true_cfg":1.0,{sizes}'
    )
    asked = ('{"ask":{', ask, ',"prompt":"', prompt, '","seed":', seed, ',"sku":"', sku, '","source_sha256":"', source)
    return _text(*asked, '"},"generation":{', how, ',"job_id":"', job, '","seed":', seed, "}}")


# -- the store -----------------------------------------------------------------------------------------------------


def fill(store: str, rows: int, number: int, jobs: pa.Array | None = None) -> None:
    """Add rows as compaction would have left them."""
    table = ManifestTable(open_store(store))
    if table.delta is None:
        table.append([], run_id="bench", batch=1, base=0)  # makes the table
        table.refresh()
    while rows > 0:
        count = min(rows, FILE_ROWS)
        sequence = table.version + 1
        data = night(number, count, sequence, None if jobs is None else jobs.slice(0, count))
        write_deltalake(table.delta, data, mode="append", writer_properties=COMPACTED, target_file_size=2**40)
        rows, number = rows - count, number + 1


def write_sheet(folder: Path, jobs: int) -> CatalogRequest:
    """A sheet of so many images, of products that have tiny photos."""
    (folder / "photos").mkdir(parents=True)
    products = min(PRODUCTS, max(1, jobs // PER_PROMPT))
    for number in range(products):
        Image.new("RGBA", (8, 8), (number % 256, number // 256, 7, 255)).save(folder / "photos" / f"P{number:04d}.png")
    with (folder / "sheet.csv").open("w", encoding="utf-8") as file:
        file.write("sku,prompt,n\n")
        for number in range(jobs // PER_PROMPT):
            file.write(f"P{number % products:04d},a product in place {number // products},{PER_PROMPT}\n")
    return CatalogRequest(str(folder / "sheet.csv"), str(folder / "photos"), str(folder / "store"))


# -- what is measured, each in a process of its own ----------------------------------------------------------------


def planned_jobs(request: CatalogRequest) -> list[str]:
    table = ManifestTable(open_store(request.store))
    return [job.job_id for job in plan_run(request, Settings(), table).jobs]


def plan(request: CatalogRequest) -> Figure:
    began, cpu = time.perf_counter(), time.process_time()
    made = plan_run(request, Settings(), ManifestTable(open_store(request.store)))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return _figure(took, f"{len(made.work)} of {len(made.jobs)} left to make", cpu)


def states(store: str, jobs: pa.Array) -> Figure:
    wanted = jobs.to_pylist()
    began = time.perf_counter()
    found = job_states(ManifestTable(open_store(store)), wanted)
    return _figure(time.perf_counter() - began, f"{len(found.done) + len(found.held)} of {len(wanted)} there")


def look_up(store: str) -> tuple[Figure, Figure]:
    """One row by all digits of its generation id, and by the first twelve, with the opening of the table."""
    table = ManifestTable(open_store(store))
    ids = next(table.dataset().to_batches(["generation_id"])).column(0).drop_null()
    wanted = [ids[len(ids) * n // 5].as_py() for n in range(5)]
    figures = []
    for digits in (64, 12):
        took = []
        for one in wanted:
            began = time.perf_counter()
            found = find_generation(ManifestTable(open_store(store)), one[:digits])
            took.append(time.perf_counter() - began)
            assert found.generation_id == one
        figures.append(_figure(statistics.median(took), "median of 5"))
    return figures[0], figures[1]


def append_night(store: str, count: int) -> Figure:
    """A night's rows through the recorder, as the settings have it, compactions included."""
    table = ManifestTable(open_store(store))
    commit = CommitSettings()
    recorder = Recorder(table, "bench-night", base=table.version, commit=commit, failures=FailureSettings(rows=10**9))
    wall = cpu = 0.0
    for rows in itertools.chain(_in_batches(count, commit.rows), [None]):
        began, before = time.perf_counter(), time.process_time()
        if rows is None:
            recorder.close()
        else:
            recorder.add(rows)
        wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - before
    return _figure(wall, f"{recorder.appends} appends, {_live_files(store)} files at the end", cpu)


def append_batch(store: str, rows: int) -> Figure:
    """One append of a few hundred rows, and of ten more that it is the median of."""
    table = ManifestTable(open_store(store))
    took = []
    for batch, made in enumerate(_in_batches(11 * rows, rows), start=1):
        began = time.perf_counter()
        table.append(made, run_id=f"bench-{os.getpid()}", batch=batch, base=table.version)
        took.append(time.perf_counter() - began)
    return _figure(statistics.median(took), "median of 11")


def _in_batches(count: int, size: int) -> Iterator[list[Row]]:
    number = time.time_ns() % 2**31  # other ids at every call
    while count > 0:
        rows = night(number, min(count, 50_000), 0)
        for at in range(0, rows.num_rows, size):
            yield to_rows(rows.slice(at, size))
        count, number = count - rows.num_rows, number + 1


def _figure(seconds: float, note: str = "", cpu: float | None = None) -> Figure:
    return Figure(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, note, cpu)


def alone(work: Callable[..., Any], *given: Any) -> Any:
    """The result of a call in a fresh process, so that its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--history", type=int, default=36_500_000)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--night", type=int, default=1_000_000)
    parser.add_argument("--folder")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        store = str(Path(folder) / "store")
        growth = Table("rows", "files", "MiB", "plan 100 k jobs", "append 500 rows", "one generation", "by 12 digits")
        known = alone(hashes, np.random.default_rng(1), min(100_000, given.history))
        filled = 0
        for size in sorted({*(size for size in GROWTH if size <= given.history), given.history}):
            alone(fill, store, min(size - filled, len(known)), 10_000_000 + size, known if not filled else None)
            alone(fill, store, size - max(filled, 0) - min(size - filled, len(known)), filled // FILE_ROWS + 1)
            filled = size
            batch, planned = alone(append_batch, store, 500), alone(states, store, known)
            alone(_compact, store)
            full, short = alone(look_up, store)
            files = list(Path(store, "manifest").glob("*.parquet"))
            mib = sum(file.stat().st_size for file in files) / 2**20
            cells = [f"{figure.seconds:.2f} s, {figure.gib:.1f} GiB" for figure in (planned, batch, full, short)]
            growth.add_row(f"{size:,}", str(_live_files(store)), f"{mib:,.0f}", *cells)
        console.print(growth)

        request = write_sheet(Path(folder), given.jobs)
        jobs = pa.array(alone(planned_jobs, request)[: given.jobs // 2])
        alone(fill, store, len(jobs), 20_000_000, jobs)
        demands = Table("with a history of", f"{filled + len(jobs):,} rows", "processor", "peak memory", "")
        rows = [
            (f"plan {given.jobs:,} jobs", alone(plan, request)),
            ("one row by its generation id", alone(look_up, store)[0]),
            ("one row by 12 digits of it", alone(look_up, store)[1]),
            (f"append a night of {given.night:,} rows", alone(append_night, store, given.night)),
        ]
        for name, figure in rows:
            cpu = "" if figure.cpu is None else f"{figure.cpu:.1f} s"
            demands.add_row(name, f"{figure.seconds:.2f} s", cpu, f"{figure.gib:.2f} GiB", figure.note)
        console.print(demands)


def _compact(store: str) -> None:
    compact(ManifestTable(open_store(store)))


def _live_files(store: str) -> int:
    delta = ManifestTable(open_store(store)).delta
    return 0 if delta is None else len(delta.file_uris())


if __name__ == "__main__":
    main()
