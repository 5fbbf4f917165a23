from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pinco.catalog.ids.identity import GenerationIdentity, Recipe
from pinco.catalog.ids.job import Job
from pinco.catalog.manifest.connect import NoManifestError
from pinco.catalog.manifest.runs import UnknownRunError
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.photos import sources
from pinco.catalog.photos.listing import read_catalog
from pinco.catalog.plan.planner import Plan, check_sheet, make_plan, plan_retry
from pinco.catalog.sheet.channels import UNREADABLE_SIZE
from pinco.catalog.sheet.image_requests import SheetSettings
from pinco.catalog.sheet.problems import SheetError
from pinco.catalog.sheet.reader import read_sheet
from pinco.catalog.store.access import StoreAccess, open_store
from pinco.catalog.store.base import ObjectInfo, Store

MakePlan = Callable[..., Plan]
SHEET = "sku,prompt,template,var:place,channel,n\n007,,a mug on {{ place }},wood | sand,source,2\nmug,a mug,,,,\n"


@pytest.fixture
def shop(tmp_path: Path, photo_bytes: Callable[..., bytes]) -> Path:
    """A folder of photos and a sheet."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "007.jpg").write_bytes(photo_bytes((300, 200), "JPEG"))
    (tmp_path / "photos" / "mug.png").write_bytes(photo_bytes((64, 64)))
    (tmp_path / "photos" / "broken.png").write_bytes(b"")
    (tmp_path / "night.csv").write_text(SHEET)
    return tmp_path


@pytest.fixture
def plan(shop: Path, folder_store: Store) -> MakePlan:
    """Plan a sheet of the shop."""

    def make(text: str = SHEET, store: Store = folder_store, **options: Any) -> Plan:
        (shop / "night.csv").write_text(text)
        sheet, catalog = read_sheet(shop / "night.csv"), read_catalog(str(shop / "photos"))
        return make_plan(sheet, catalog, SheetSettings(), ManifestTable(store), **options)

    return make


@pytest.fixture
def finish(make_identity: Callable[..., GenerationIdentity]) -> Callable[..., None]:
    """Commit outcomes of jobs."""

    def run(store: Store, jobs: list[Job], run_id: str = "run-a", status: str = "ok", **given: Any) -> None:
        rows = []
        for job in jobs:
            identity = make_identity(job_id=job.job_id)
            made: dict[str, Any] = {
                "generation_id": identity.generation_id(),
                "recipe": Recipe(job.ask, identity).to_json(),
                "image_uri": "/x.png",
                "image_sha256": "ab",
                "seconds": 3.0,
            }
            failed: dict[str, Any] = {"error_type": "E", "error_message": "It failed."}
            outcome = failed if status in ("failed", "quarantined") else made
            rows.append(Row.of(job, run_id=run_id, status=status, attempts=1, **{**outcome, **given}))  # type: ignore[arg-type]
        table = ManifestTable(store)
        table.append(rows, run_id=run_id, batch=table.version + 1, base=table.version)

    return run


def test_a_sheet_becomes_jobs(plan: MakePlan, shop: Path) -> None:
    made = plan()
    assert [(job.row, job.sku, job.prompt, job.variant) for job in made.jobs] == [
        (2, "007", "a mug on wood", 0),
        (2, "007", "a mug on wood", 1),
        (2, "007", "a mug on sand", 0),
        (2, "007", "a mug on sand", 1),
        (3, "mug", "a mug", 0),
    ]
    assert len({job.job_id for job in made.jobs}) == len({job.seed for job in made.jobs}) == 5
    first, last = made.jobs[0], made.jobs[-1]
    assert (first.channel, first.delivery_size, last.channel, last.delivery_size) == (
        "source",
        (300, 200),
        "square",
        (512, 512),
    )
    assert first.source_uri == str(shop / "photos" / "007.jpg")
    assert all(side % 16 == 0 for side in first.working_size)
    assert (made.work, made.done, made.held, made.warnings, made.base) == (made.jobs, frozenset(), frozenset(), (), 0)
    assert (made.estimate.images, made.estimate.seconds) == (5, None)


def test_a_plan_writes_nothing_unless_hashes_are_to_be_saved(plan: MakePlan, folder_store: Store) -> None:
    plan()
    assert not Path(folder_store.uri).exists()
    plan(save_sources=True)
    assert [info.key for info in folder_store.list()] == ["_sources/000000000001.parquet"]


def test_an_image_that_failed_to_be_made_again_is_done(
    plan: MakePlan, finish: Callable[..., None], folder_store: Store
) -> None:
    jobs = plan().jobs
    finish(folder_store, list(jobs), "run-a", "ok")
    finish(folder_store, list(jobs[:2]), "redo", "failed")
    again = plan()
    assert (again.work, again.held, len(again.done)) == ((), frozenset(), 5)
    assert plan_retry(ManifestTable(folder_store), "redo").work == jobs[:2]


def test_the_same_sheet_is_the_same_jobs(plan: MakePlan, tmp_path: Path) -> None:
    assert plan().jobs == plan(store=open_store(str(tmp_path / "another"))).jobs


def test_what_is_committed_is_not_work(plan: MakePlan, finish: Callable[..., None], folder_store: Store) -> None:
    jobs = plan().jobs
    finish(folder_store, [jobs[0]], status="ok")
    finish(folder_store, [jobs[1]], status="rejected")
    finish(folder_store, [jobs[2]], status="failed")
    finish(folder_store, [jobs[3]], status="failed", transient=True)
    again = plan()
    assert again.jobs == jobs
    assert again.work == (jobs[3], jobs[4])
    assert again.done == {jobs[0].job_id, jobs[1].job_id}
    assert again.held == {jobs[2].job_id}
    assert (again.base, again.estimate.seconds) == (4, 6.0)
    assert plan(redo=True).work == jobs


def test_a_changed_prompt_is_exactly_its_own_images(
    plan: MakePlan, finish: Callable[..., None], folder_store: Store
) -> None:
    finish(folder_store, list(plan().jobs))
    assert plan().work == ()
    changed = plan(SHEET.replace("sand", "snow"))
    assert [job.prompt for job in changed.work] == ["a mug on snow"] * 2


def test_a_changed_photo_is_exactly_its_own_images(
    plan: MakePlan, finish: Callable[..., None], folder_store: Store, shop: Path, photo_bytes: Callable[..., bytes]
) -> None:
    finish(folder_store, list(plan().jobs))
    (shop / "photos" / "mug.png").write_bytes(photo_bytes((65, 64), colour="blue"))
    assert [job.sku for job in plan().work] == ["mug"]


def test_a_broken_photo_is_a_job_that_will_fail(plan: MakePlan) -> None:
    (job,) = plan("sku,prompt,channel\nbroken,x,source\n").jobs
    assert job.delivery_size == UNREADABLE_SIZE
    assert job.source_sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes


def test_duplicate_rows_are_one_job_and_a_warning(plan: MakePlan) -> None:
    made = plan("sku,prompt,n,seed\nmug,x,2,\nmug,x,,\nmug,y,,\nmug,x,3,\n")
    assert [(job.row, job.prompt, job.variant) for job in made.jobs] == [
        (2, "x", 0),
        (2, "x", 1),
        (4, "y", 0),
        (5, "x", 2),
    ]
    assert [(warning.row, warning.message) for warning in made.warnings] == [
        (3, "1 image of this row is asked for in row 2 already, and made once"),
        (5, "2 images of this row are asked for in row 2 already, and made once"),
    ]


def test_only_some_products_and_only_so_many(plan: MakePlan) -> None:
    assert [job.sku for job in plan(only=["mug"]).jobs] == ["mug"]
    limited = plan(limit=2)
    assert (len(limited.jobs), len(limited.work), limited.estimate.images) == (5, 2, 2)
    with pytest.raises(SheetError, match=r"no row with this SKU.*Did you mean 'mug'"):
        plan(only=["mgu"])


def test_all_errors_come_at_once_from_every_stage(plan: MakePlan, shop: Path) -> None:
    text = "sku,prompt,template,n,channel,image\nmug,x,,many,,\nmgu,x,,,,\n007,,{{ y }},,sqare,none.png\n"
    with pytest.raises(SheetError) as planned:
        plan(text)
    assert [(error.row, error.column) for error in planned.value.errors] == [
        (2, "n"),
        (3, "sku"),
        (4, "image"),
        (4, "channel"),
    ]
    with pytest.raises(SheetError) as checked:
        check_sheet(read_sheet(shop / "night.csv"), read_catalog(str(shop / "photos")), SheetSettings())
    assert checked.value.errors == planned.value.errors


def test_checking_reads_no_photo(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("a photo was read")

    monkeypatch.setattr("pinco.catalog.photos.sources._look", refuse)
    sheet, catalog = read_sheet(shop / "night.csv"), read_catalog(str(shop / "photos"))
    assert check_sheet(sheet, catalog, SheetSettings()) == []


def test_a_photo_that_cannot_be_read_costs_its_own_rows(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    look = sources._look

    def deny_one(uri: str, info: ObjectInfo, access: StoreAccess) -> Any:
        return "permission denied" if uri.endswith("007.jpg") else look(uri, info, access)

    everything = plan()
    monkeypatch.setattr(sources, "_look", deny_one)
    monkeypatch.setattr(sources.SourceIndex, "_has", lambda *_: False)
    planned, again = plan(), plan()
    lost = [job for job in planned.work if job.source_uri.endswith("007.jpg")]
    assert lost and {job.job_id: "permission denied" for job in lost} == dict(planned.unreadable)
    assert planned.unreadable == again.unreadable, "the next night asks for the same jobs"
    assert len(planned.jobs) == len(everything.jobs)
    assert not set(planned.unreadable) & {job.job_id for job in everything.jobs}
    assert any("cannot be read: permission denied" in str(warning) for warning in planned.warnings)


def test_a_night_in_which_no_photo_can_be_read_is_an_error(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_look", lambda uri, info, access: "permission denied")
    with pytest.raises(SheetError, match="row 3, column image: the photo cannot be read: permission denied"):
        plan()


def test_a_retry_runs_what_a_run_could_not_make(
    plan: MakePlan, finish: Callable[..., None], folder_store: Store
) -> None:
    jobs = plan().jobs
    finish(folder_store, [jobs[0]], "run-a", "ok")
    finish(folder_store, [jobs[1]], "run-a", "failed")
    finish(folder_store, [jobs[2]], "run-a", "quarantined")
    finish(folder_store, [jobs[3]], "run-a", "failed")
    finish(folder_store, [jobs[3]], "run-b", "ok")
    finish(folder_store, [jobs[4]], "run-b", "failed")
    retry = plan_retry(ManifestTable(folder_store), "run-a")
    assert retry.work == (jobs[1], jobs[2])
    assert retry.base == 6
    with pytest.raises(UnknownRunError, match="Did you mean 'run-"):
        plan_retry(ManifestTable(folder_store), "run-z")


def test_a_retry_of_a_store_without_a_manifest_is_refused(folder_store: Store) -> None:
    with pytest.raises(NoManifestError, match="check the address"):
        plan_retry(ManifestTable(folder_store), "run-a")


def test_a_plan_against_s3(plan: MakePlan, finish: Callable[..., None], bucket: str, s3_endpoint: str) -> None:
    store = open_store(f"s3://{bucket}/nightly", StoreAccess(s3_endpoint))
    jobs = plan(store=store).jobs
    finish(store, list(jobs[:3]))
    assert plan(store=store).work == jobs[3:]
