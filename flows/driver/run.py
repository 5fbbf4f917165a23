"""The stages of a run, in order: plan the sheet, make the images, write the report.

`flows.start` calls this, directly or through the Prefect flow, which passes a `stage` that wraps every stage in a task.
The stages close over their data: nothing but names and numbers goes through Prefect.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from flows.driver.endings import RunInterruptedError
from flows.driver.making import Made, make_images
from flows.driver.ray_session import RaySession
from flows.driver.reporting import write_report
from flows.planning import RetryRequest, RunRequest, new_run_id, plan_run, run_spec
from flows.progress import Watch, no_progress
from flows.settings import Settings
from pinco.catalog.manifest.adoption import adopt_pending
from pinco.catalog.manifest.table import ManifestTable, open_manifest
from pinco.catalog.plan.planner import Plan
from pinco.generation.take import Take

T = TypeVar("T")

log = logging.getLogger(__name__)


class Stage(Protocol):
    """Runs one stage under its name."""

    def __call__(self, name: str, work: Callable[[], T], /) -> T: ...


@dataclass(frozen=True)
class RunSummary:
    """What became of a run.

    Attributes:
        run_id: Name of the run.
        store: Address of its store.
        planned: Images that were requested.
        done_before: Of these, how many were done before.
        held: How many failed permanently or are quarantined, and are left alone.
        adopted: Images of an earlier, interrupted run that were recovered.
        statuses: The rows that this run made, by status.
        dropped: Rows that another run had finished meanwhile.
        report: Address of the contact sheet, if one was written.
        seconds: Wall time in seconds by stage.
        error: What ended the run early, if anything.
        placements: Where the workers' weights lie, each line once.
    """

    run_id: str
    store: str
    planned: int
    done_before: int
    held: int
    adopted: int
    statuses: Counter[str]
    dropped: int
    report: str | None
    seconds: dict[str, float]
    error: Exception | None = None
    placements: tuple[str, ...] = ()

    @property
    def made(self) -> int:
        return self.statuses.total()


def run_directly(name: str, work: Callable[[], T], /) -> T:
    """A stage without an orchestrator."""
    return work()


def run_stages(
    request: RunRequest, settings: Settings, *, stage: Stage = run_directly, watch: Watch = no_progress
) -> RunSummary:
    """Carry out a request: plan it, make its images, write the report.

    Args:
        request: What is asked for.
        settings: How it is carried out.
        stage: Runs each stage under its name; Prefect makes a task of it.
        watch: Shows the progress.

    Returns:
        What became of the run. What ended it early is in the summary, because what was finished is committed.

    Raises:
        SheetError: The sheet has errors; nothing was made.
        StoreError: The store cannot be used; nothing was made.
    """
    run_id = new_run_id()

    def plan_work() -> tuple[ManifestTable, Plan, int]:
        table = open_manifest(request.store, settings.access)
        adopted = adopt_pending(table, run_id)
        return table, plan_run(request, settings, table, save_sources=True), adopted

    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T], /) -> T:
        began = time.perf_counter()
        try:
            return stage(name, work)
        finally:
            seconds[name] = time.perf_counter() - began

    session = RaySession(settings.ray)  # starts beside the reading of the sheet
    try:
        table, plan, adopted = timed("plan", plan_work)
        if plan.advice:
            log.warning("%s", plan.advice)
        spec = run_spec(run_id, request.store, settings)
        take = Take.another if isinstance(request, RetryRequest) else Take.first
        takes = [take(job) for job in plan.work]
        made, report = Made(Counter()), None
        if takes:
            made = timed(
                "make",
                lambda: make_images(takes, spec, table, plan.base, settings, session, watch, plan.unreadable),
            )
        if made.statuses and not isinstance(made.error, RunInterruptedError):
            report = timed("report", lambda: write_report(spec, table))
    finally:
        began = time.perf_counter()
        session.close()
        seconds["close"] = time.perf_counter() - began
    return RunSummary(
        run_id=run_id,
        store=spec.store_uri,
        planned=len(plan.jobs),
        done_before=len(plan.done),
        held=len(plan.held),
        adopted=adopted,
        statuses=made.statuses,
        dropped=made.dropped,
        report=report,
        seconds=seconds,
        error=made.error,
        placements=made.placements,
    )
