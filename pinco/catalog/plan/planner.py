"""The plan: which images a sheet asks for, which of them are there already, and which are left to make.

    sheet rows -> image requests -> (photos hashed) -> jobs -> minus what is committed = work

Nothing is generated, and no photo that was seen before is read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pinco.catalog.ids.job import Job
from pinco.catalog.manifest.connect import ManifestError
from pinco.catalog.manifest.readers import job_states, read_rows
from pinco.catalog.manifest.runs import require_run
from pinco.catalog.manifest.schema import DONE
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.photos.listing import Catalog
from pinco.catalog.photos.sources import Source, SourceIndex
from pinco.catalog.plan.estimate import Estimate, estimate_time
from pinco.catalog.sheet.image_requests import ImageRequest, SheetSettings, resolve_rows
from pinco.catalog.sheet.problems import Problems, SheetError, SheetProblem, did_you_mean, in_order
from pinco.catalog.sheet.reader import Sheet
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess
from pinco.errors import first_line
from preprocessing.canvas import working_size


@dataclass(frozen=True)
class Plan:
    """What a sheet asks for, judged by a manifest.

    Attributes:
        jobs: Everything that was asked for, each once, in the order of the sheet.
        work: What is left to make.
        done: Ids of jobs whose image is there.
        held: Ids of jobs that failed permanently or are quarantined, which only a retry runs again.
        unreadable: Jobs whose photo is there and cannot be read now, by their ids, with the reason. They belong to the
            work and end as failed rows.
        warnings: What the sheet's author should look at.
        base: Version of the manifest that this was judged by; appends of this plan's run name it.
        estimate: How long the work may take.
        advice: One line on what would make better images, where there is something to say.
    """

    jobs: tuple[Job, ...]
    work: tuple[Job, ...]
    done: frozenset[str]
    held: frozenset[str]
    warnings: tuple[SheetProblem, ...]
    base: int
    estimate: Estimate
    unreadable: Mapping[str, str] = field(default_factory=dict)
    advice: str | None = None


def check_sheet(
    sheet: Sheet, catalog: Catalog, settings: SheetSettings, *, access: StoreAccess = DEFAULT_ACCESS
) -> list[SheetProblem]:
    """Check a sheet without reading a photo and without a store. Returns the warnings.

    Raises:
        SheetError: with everything that is wrong.
    """
    problems = _gather(sheet, catalog)
    resolve_rows(sheet, catalog, settings, problems, access)
    _raise_errors(problems)
    return in_order(problems.warnings)


def make_plan(
    sheet: Sheet,
    catalog: Catalog,
    settings: SheetSettings,
    table: ManifestTable,
    *,
    access: StoreAccess = DEFAULT_ACCESS,
    only: Collection[str] = (),
    limit: int | None = None,
    redo: bool = False,
    save_sources: bool = False,
) -> Plan:
    """Plan a sheet against the manifest of a store.

    Args:
        sheet: What is asked for.
        catalog: The product photos.
        settings: What names in the sheet mean.
        table: The manifest.
        access: How photos are reached.
        only: SKUs; other rows are left out.
        limit: Make at most so many images now.
        redo: Make images again that are done.
        save_sources: Keep the hashes of new photos in the store for the next plan; without it nothing is written.

    Raises:
        SheetError: With all errors of sheet and catalog; also where not one of the photos can be read.
        StoreError: The store cannot be used.
    """
    problems = _gather(sheet, catalog)
    requests = resolve_rows(sheet, catalog, settings, problems, access)
    for sku in sorted(set(only) - {row.sku for row in sheet.rows}):
        hint = did_you_mean(sku, {row.sku for row in sheet.rows})
        problems.error("the sheet has no row with this SKU", column="sku", value=sku, hint=hint)
    _raise_errors(problems)
    chosen = [request for request in requests if not only or request.sku in only]
    index = SourceIndex(table.store)
    sources, unreadable = index.resolve({request.photo_uri: request.photo for request in chosen}, access)
    if save_sources:
        index.save()
    _say_unreadable(chosen, unreadable, problems)
    sources |= {uri: _unread(uri) for uri in unreadable}
    jobs = _unique([_job(request, sources[request.photo_uri], settings) for request in chosen], problems)
    plan = _against(table, jobs, tuple(in_order(problems.warnings)), limit=limit, redo=redo)
    return replace(
        plan, unreadable={job.job_id: unreadable[job.source_uri] for job in plan.work if job.source_uri in unreadable}
    )


def plan_retry(table: ManifestTable, run_id: str) -> Plan:
    """The jobs that a run failed at or that are quarantined, to be run again whatever the reason was.

    Raises:
        NoManifestError: there is no manifest.
        UnknownRunError: there is no such run.
        ManifestError: the manifest cannot be read, or a row does not describe its job (other software wrote it).
    """
    rows = read_rows(table, run_id=run_id)
    if not rows:
        require_run(table, run_id)
    try:
        jobs = [row.job() for row in rows if row.status not in DONE]
    except (ValueError, TypeError, LookupError) as error:
        raise ManifestError(
            f"{table.store.uri}: a row of run {run_id} cannot be retried: {first_line(error)}"
        ) from error
    return _against(table, jobs, (), limit=None, redo=True)


def _gather(sheet: Sheet, catalog: Catalog) -> Problems:
    problems = Problems(sheet.path)
    problems.errors += sheet.errors
    problems.warnings += [*catalog.warnings, *sheet.warnings]
    return problems


def _raise_errors(problems: Problems) -> None:
    if problems.errors:
        raise SheetError(problems.errors, problems.warnings)


def _say_unreadable(chosen: Sequence[ImageRequest], unreadable: Mapping[str, str], problems: Problems) -> None:
    """One photo that cannot be read costs its own rows; if it is all of them, nothing is to be made, and it is said."""
    rows = [request for request in chosen if request.photo_uri in unreadable]
    none_left = bool(rows) and len(rows) == len(chosen)
    for request in rows:
        message = f"the photo cannot be read: {unreadable[request.photo_uri]}"
        (problems.error if none_left else problems.warn)(
            message, row=request.row, column="image", value=request.photo_uri
        )
    _raise_errors(problems)


def _unread(uri: str) -> Source:
    """What stands for a photo that cannot be read: its ids must not be those of any photo."""
    return Source(uri, "", 0, hashlib.sha256(f"unreadable:{uri}".encode()).hexdigest(), None, None)


def _job(request: ImageRequest, source: Source, settings: SheetSettings) -> Job:
    delivery = request.channel.delivery_size(source.pixels)
    return Job.planned(
        row=request.row,
        source_uri=request.photo_uri,
        sku=request.sku,
        source_sha256=source.sha256,
        prompt=request.prompt,
        negative=request.negative,
        channel=request.channel.name,
        placement=request.placement,
        working_size=working_size(delivery, settings.working_pixels, settings.multiple),
        delivery_size=delivery,
        variant=request.variant,
        seed=request.seed,
    )


def _unique(jobs: Sequence[Job], problems: Problems) -> list[Job]:
    """Each job once; rows that repeat another row are said, not run twice."""
    first: dict[str, Job] = {}
    repeated: dict[tuple[int, int], int] = {}
    for job in jobs:
        earlier = first.setdefault(job.job_id, job)
        if earlier is not job:
            repeated[job.row, earlier.row] = repeated.get((job.row, earlier.row), 0) + 1
    for (row, earlier_row), count in repeated.items():
        images = "1 image of this row is" if count == 1 else f"{count} images of this row are"
        problems.warn(f"{images} asked for in row {earlier_row} already, and made once", row=row)
    return list(first.values())


def _against(
    table: ManifestTable, jobs: Sequence[Job], warnings: tuple[SheetProblem, ...], *, limit: int | None, redo: bool
) -> Plan:
    states = job_states(table, [job.job_id for job in jobs])
    settled = frozenset() if redo else states.done | states.held
    work = [job for job in jobs if job.job_id not in settled][:limit]
    return Plan(
        jobs=tuple(jobs),
        work=tuple(work),
        done=states.done,
        held=states.held,
        warnings=warnings,
        base=table.version,
        estimate=estimate_time(table, len(work)),
    )
