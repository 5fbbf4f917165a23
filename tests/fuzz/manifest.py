"""The manifest's table with a damaged file, of its log or of its rows, through everything that reads it."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from pinco.catalog.check.findings import check_store
from pinco.catalog.ids.identity import GenerationIdentity, Recipe
from pinco.catalog.ids.job import Job
from pinco.catalog.manifest.history import history
from pinco.catalog.manifest.pending import row_to_json
from pinco.catalog.manifest.readers import find_generation, job_states, read_rows, recent_images
from pinco.catalog.manifest.runs import known_runs
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import compact
from pinco.catalog.plan.planner import plan_retry
from pinco.catalog.store.access import open_store
from preprocessing.canvas import Placement
from tests.fuzz.mutate import mutated
from tests.fuzz.run import Target

_HOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Folders that are removed when the process ends."""

_READERS = 11
_WAITING = "_pending/{}-0123456789abcdef.png.json"


def _row(number: int, run_id: str) -> Row:
    job = Job.planned(
        row=number + 2, source_uri="/photos/a.png", sku=f"{number:04d}", source_sha256="ab" * 32, prompt="on a table",
        negative=None, channel="square", placement=Placement("original", None, 0.08), working_size=(128, 128),
        delivery_size=(512, 512), variant=0, seed=7,
    )  # fmt: skip
    made_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    if number % 3 == 0:
        why = {"error_type": "store_error", "error_message": "the bucket does not answer"}
        return Row.of(job, run_id=run_id, status="failed", attempts=1, created_at=made_at, **why)
    identity = GenerationIdentity(
        job_id=job.job_id, seed=7, steps=20, guidance=3.5, true_cfg=4.0, max_sequence_length=64, scheduler="Euler",
        dtype="float32", blending=False, prune=True, adapter_scale=1.0, cutout_recipe="c1", backbone_sha256="bb" * 32,
        adapter_sha256=None, shadow="none", working_size=(128, 128), delivery_size=(512, 512), format="png", quality=90,
    )  # fmt: skip
    generation = identity.generation_id()
    return Row.of(
        job, run_id=run_id, status="ok", attempts=1, created_at=made_at, generation_id=generation, seconds=2.0,
        recipe=Recipe(job.ask, identity).to_json(), image_uri=f"images/{generation}-0123456789abcdef.png",
        image_sha256="cd" * 32,
    )  # fmt: skip


@cache
def _store() -> tuple[Path, tuple[str, ...]]:
    """A store with compacted files, single ones, a checkpoint and a row that waits; and its files."""
    holder = tempfile.TemporaryDirectory()
    _HOLDERS.append(holder)
    root = Path(holder.name) / "sound"
    table = ManifestTable(open_store(str(root)))
    for run in range(3):
        rows = [_row(3 * run + number, f"run-{run}") for number in range(3)]
        table.append(rows, run_id=f"run-{run}", batch=1, base=table.version)
    compact(table)
    table.append([_row(20, "run-z")], run_id="run-z", batch=1, base=table.version)
    waiting = _row(1, "run-y")
    table.store.put_if_absent(_WAITING.format(waiting.generation_id), row_to_json(waiting).encode())
    files = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    return root, tuple(name for name in files if not name.startswith("."))


def _damaged(chance: random.Random) -> bytes:
    """The number of a file, that of a reader, and the file."""
    root, files = _store()
    number = chance.randrange(len(files))
    return bytes([number, chance.randrange(_READERS)]) + mutated((root / files[number]).read_bytes(), chance)


def _read(data: bytes) -> None:
    """One of the readers alone: what one of them refuses, another may still answer."""
    root, files = _store()
    copy = root.with_name("damaged")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy)
    (copy / files[data[0]]).write_bytes(data[2:])
    store, row = open_store(str(copy)), _row(1, "run-0")
    readers: Sequence[Callable[[], object]] = (
        lambda: read_rows(ManifestTable(store)),
        lambda: read_rows(ManifestTable(store), run_id="run-1"),
        lambda: job_states(ManifestTable(store), [row.job_id]),
        lambda: recent_images(ManifestTable(store), 5),
        lambda: find_generation(ManifestTable(store), str(row.generation_id)),
        lambda: find_generation(ManifestTable(store), str(row.generation_id)[:9]),
        lambda: known_runs(ManifestTable(store)),
        lambda: plan_retry(ManifestTable(store), "run-1"),
        lambda: list(history(store)),
        lambda: check_store(store, full=True),
        lambda: ManifestTable(store).append([_row(50, "run-n")], run_id="run-n", batch=1, base=0),
    )
    assert len(readers) == _READERS
    readers[data[1]]()


MANIFEST = Target("manifest reader", _damaged, _read)
