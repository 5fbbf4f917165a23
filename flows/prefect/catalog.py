"""The Prefect flow `catalog`: the stages of a run as tasks, a heartbeat, and a note on how the run ended.

Prefect sees addresses and numbers. One task per stage, never one per image: a night has tens of thousands of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.driver.run import RunSummary, run_stages
from flows.planning import CatalogRequest, RetryRequest, RunRequest
from flows.prefect.heartbeat import heartbeat
from flows.progress import describe
from flows.settings import Settings, load_settings
from pinco.errors import PincoError

T = TypeVar("T")


class RequestError(PincoError, ValueError):
    """A flow run was asked for neither a sheet nor a retry, or for both."""

    code = "invalid_request"


class EndedEarlyError(PincoError):
    """A run ended before its work was done; `summary` has what was finished and the reason."""

    code = "ended_early"

    def __init__(self, summary: RunSummary) -> None:
        super().__init__(str(summary.error))
        self.summary = summary


@flow(name="catalog", retries=0, validate_parameters=True)
def catalog(
    sheet: str | None = None,
    catalog: str | None = None,
    *,
    store: str,
    retry: str | None = None,
    backbone: str | None = None,
    adapter: str | None = None,
    method: str | None = None,
    controlnet: str | None = None,
    only: list[str] | None = None,
    limit: int | None = None,
    redo: bool = False,
    settings: dict[str, Any] | None = None,
) -> RunSummary:
    """Make what a prompt sheet asks for and the store does not have, or what failed in an earlier run.

    Args:
        sheet: The prompt sheet: a path or an s3:// address. Leave it empty for a retry.
        catalog: The product photos: a folder, an s3:// prefix or a table. Leave it empty for a retry.
        store: Where images and manifest go: a folder or s3://bucket/prefix.
        retry: Id of an earlier run whose failed and quarantined images are to be made, instead of a sheet.
        backbone: Folder of the backbone; empty = the settings'.
        adapter: Folder of the adapter; empty = the settings'.
        method: By what images match their product; empty = the settings'.
        controlnet: Folder of the ControlNet; empty = the settings'.
        only: Only these SKUs; empty = all.
        limit: Make at most so many images now.
        redo: Make again what is there.
        settings: Settings of this run by section, where they differ from the worker's own.
    """
    loaded = load_settings(
        settings,
        model__backbone=backbone,
        model__adapter=adapter,
        model__method=method,
        model__controlnet=controlnet,
    )
    request = _request(sheet, catalog, store, retry, tuple(only or ()), limit, redo)
    summary = run_stages(request, loaded, stage=as_task, watch=heartbeat(loaded.prefect.heartbeat_seconds))
    create_markdown_artifact(note(summary), key="catalog-run", description=f"run {summary.run_id}")
    if summary.error is not None:
        raise EndedEarlyError(summary) from summary.error
    return summary


def run_in_prefect(request: RunRequest, settings: Settings) -> RunSummary:
    """The flow, called from this process with settings that are loaded already."""
    said = settings.model_dump(mode="json", exclude_unset=True)
    try:
        if isinstance(request, RetryRequest):
            return catalog(store=request.store, retry=request.run, settings=said)
        summary: RunSummary = catalog(**asdict(request) | {"only": list(request.only)}, settings=said)
        return summary
    except EndedEarlyError as ended:
        return ended.summary


def as_task(name: str, work: Callable[[], T], /) -> T:
    """A stage as a task. The work closes over its data, so Prefect has none to hash, store or show."""
    stage: Callable[[], T] = task(name=name, cache_policy=NO_CACHE, persist_result=False)(lambda: work())
    return stage()


def note(summary: RunSummary) -> str:
    """What became of a run, as Markdown."""
    lines = [
        f"# Run {summary.run_id}",
        "",
        f"{summary.planned} planned, {summary.done_before} done before, {describe(summary.statuses)}.",
        "",
        f"Store: `{summary.store}`",
    ]
    if summary.report:
        lines.append(f"\nContact sheet: `{summary.report}`")
    if summary.error is not None:
        lines.append(f"\nEnded early: {summary.error}")
    return "\n".join(lines)


def _request(
    sheet: str | None,
    photos: str | None,
    store: str,
    retry: str | None,
    only: tuple[str, ...],
    limit: int | None,
    redo: bool,
) -> RunRequest:
    if retry and not sheet:
        return RetryRequest(store, retry)
    if retry or not (sheet and photos):
        raise RequestError("Name a sheet and a catalog, or the id of a run to retry; not both.")
    return CatalogRequest(sheet, photos, store, only, limit, redo)
