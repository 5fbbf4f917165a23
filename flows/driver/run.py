"""The stages of a run, in order: plan the sheet, make the images, write the report.

``pinco run`` calls ``run_catalog`` as it is; the Prefect flow passes a ``stage`` that wraps every stage in a task. The
stages close over their data: nothing but names and numbers goes through Prefect.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from flows.driver.endings import RunInterruptedError
from flows.driver.making import Made, make_images
from flows.driver.ray_session import RaySession
from flows.driver.reporting import write_report
from flows.planning import CatalogRequest, adopt, new_run_id, plan_catalog, run_spec
from flows.progress import Watch, no_progress
from flows.settings import Settings
from pinco.catalog.ids.job import Job
from pinco.catalog.plan.planner import Plan, plan_retry
from pinco.catalog.store.access import open_store
from pinco.generation.take import Take

if TYPE_CHECKING:
    from flows.driver.actors import Generator

T = TypeVar("T")


class Stage(Protocol):
    """Runs one stage under its name."""

    def __call__(self, name: str, work: Callable[[], T], /) -> T: ...


@dataclass(frozen=True)
class RunSummary:
    """What became of a run. ``statuses`` counts the rows that it made; ``error`` is what ended it early, if anything.

    dropped: rows that another run had finished meanwhile. seconds: wall time by stage.
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

    @property
    def made(self) -> int:
        return self.statuses.total()


def run_directly(name: str, work: Callable[[], T], /) -> T:
    """A stage without an orchestrator."""
    return work()


def run_catalog(
    request: CatalogRequest,
    settings: Settings,
    *,
    stage: Stage = run_directly,
    watch: Watch = no_progress,
    generator: type[Generator] | None = None,
) -> RunSummary:
    """Make what the request asks for and the store does not have.

    Raises SheetError and StoreError before anything is made; what ends a run later is in the summary, because what was
    finished until then is committed. ``generator`` takes another class of inference actors.
    """
    run_id = new_run_id()

    def plan() -> tuple[Plan, int]:
        adopted = adopt(request.store, run_id, settings)
        return plan_catalog(request, settings), adopted

    return _carry_out(plan, run_id, request.store, settings, stage, watch, Take.first, generator)


def retry_run(
    store: str,
    run_id: str,
    settings: Settings,
    *,
    stage: Stage = run_directly,
    watch: Watch = no_progress,
    generator: type[Generator] | None = None,
) -> RunSummary:
    """Ask again, as a new run, for the images of a run that failed or are quarantined; each gets another seed."""

    def plan() -> tuple[Plan, int]:
        return plan_retry(open_store(store, settings.access), run_id), 0

    return _carry_out(plan, new_run_id(), store, settings, stage, watch, Take.another, generator)


def _carry_out(
    plan_work: Callable[[], tuple[Plan, int]],
    run_id: str,
    store_uri: str,
    settings: Settings,
    stage: Stage,
    watch: Watch,
    take: Callable[[Job], Take],
    generator: type[Generator] | None,
) -> RunSummary:
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T], /) -> T:
        began = time.perf_counter()
        try:
            return stage(name, work)
        finally:
            seconds[name] = time.perf_counter() - began

    session = RaySession(settings.ray)  # starts beside the reading of the sheet
    try:
        plan, adopted = timed("plan", plan_work)
        spec = run_spec(run_id, store_uri, settings)
        takes = [take(job) for job in plan.work]
        made, report = Made(Counter()), None
        if takes:
            made = timed("make", lambda: make_images(takes, spec, plan.base, settings, session, watch, generator))
        if made.statuses and not isinstance(made.error, RunInterruptedError):
            report = timed("report", lambda: write_report(spec))
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
    )
