"""The Prefect flow ``catalog``: the stages of a run as tasks, a heartbeat, and a note on how it ended.

Prefect sees addresses and numbers. One task per stage, never one per image: a night has tens of thousands of them.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from flows.driver.run import RunSummary, run_catalog
from flows.planning import CatalogRequest
from flows.progress import Snapshot, Watch, describe, every
from flows.settings import Settings, load_settings

log = logging.getLogger(__name__)

T = TypeVar("T")


@flow(name="catalog", retries=0, validate_parameters=True)
def catalog(
    sheet: str,
    catalog: str,
    store: str,
    backbone: str | None = None,
    adapter: str | None = None,
    only: list[str] | None = None,
    limit: int | None = None,
    redo: bool = False,
) -> dict[str, Any]:
    """Make what a prompt sheet asks for and the store does not have.

    Args:
        sheet: the prompt sheet, a path or an s3:// address.
        catalog: product photos, a folder, an s3:// prefix or a table.
        store: where images and manifest go, a folder or s3://bucket/prefix.
        backbone: folder of the backbone; none = the settings'.
        adapter: folder of the adapter; none = the settings'.
        only: these SKUs; none = all.
        limit: at most so many images now.
        redo: make again what is there.
    """
    settings = load_settings(model__backbone=backbone, model__adapter=adapter)
    summary = _carry_out(CatalogRequest(sheet, catalog, store, tuple(only or ()), limit, redo), settings)
    _raise_error(summary)
    return {"run_id": summary.run_id, "planned": summary.planned, "made": dict(summary.statuses)}


def run_in_prefect(request: CatalogRequest, settings: Settings) -> RunSummary:
    """A flow run for a caller that has its settings already and wants the whole summary."""
    ended: list[RunSummary] = []

    @flow(name="catalog", retries=0)
    def run() -> None:
        ended.append(_carry_out(request, settings))
        _raise_error(ended[0])

    state = run(return_state=True)
    if not ended:
        state.result()  # raises what went wrong before anything was made
    return ended[0]


def _carry_out(request: CatalogRequest, settings: Settings) -> RunSummary:
    summary = run_catalog(request, settings, stage=as_task, watch=heartbeat(settings.prefect.heartbeat_seconds))
    _note(summary)
    return summary


def _raise_error(summary: RunSummary) -> None:
    """What ended the run early makes the flow run a failed one."""
    if summary.error is not None:
        raise summary.error


def as_task(name: str, work: Callable[[], T], /) -> T:
    """A stage as a task. The work closes over its data, so Prefect has none to hash, store or show."""
    stage: Callable[[], T] = task(name=name, cache_policy=NO_CACHE, persist_result=False)(lambda: work())
    return stage()


def heartbeat(seconds: float) -> Watch:
    """A progress artifact, brought up to date every ``seconds``: a run that stands still is seen from afar."""

    @contextmanager
    def watch(snapshot: Snapshot, total: int) -> Iterator[None]:
        context = contextvars.copy_context()  # knows the task run that the artifact belongs to
        artifact = None

        def beat() -> None:
            nonlocal artifact
            counts = snapshot()
            share, text = 100.0 * counts.total() / total, f"{counts.total()} of {total}: {describe(counts)}"
            try:
                if artifact is None:
                    artifact = context.run(create_progress_artifact, share, description=text)
                else:
                    context.run(update_progress_artifact, artifact, share, text)
            except Exception as error:  # a server that restarts must not end the night
                log.warning("the heartbeat could not be sent: %s", error)

        with every(seconds, beat):
            yield

    return watch


def _note(summary: RunSummary) -> None:
    lines = [
        f"# Run {summary.run_id}",
        "",
        f"{summary.planned} planned, {summary.done_before} there before, {describe(summary.statuses)}.",
        "",
        f"Store: `{summary.store}`",
    ]
    if summary.report:
        lines.append(f"\nContact sheet: `{summary.report}`")
    if summary.error is not None:
        lines.append(f"\nEnded early: {summary.error}")
    create_markdown_artifact("\n".join(lines), key="catalog-run", description=f"run {summary.run_id}")
