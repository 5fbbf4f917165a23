"""From addresses and settings to a plan. Imports neither Ray nor Prefect nor torch: planning is quick everywhere."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.settings import Settings
from flows.take import RunSpec
from flows.weights import working_pixels
from pinco.catalog.channels import read_channels
from pinco.catalog.commits import CommitLog
from pinco.catalog.image_requests import SheetSettings
from pinco.catalog.orphans import adopt_orphans
from pinco.catalog.photos import absolute, read_catalog
from pinco.catalog.plan import Plan, check_sheet, make_plan
from pinco.catalog.sheet import read_sheet
from pinco.catalog.sheet_problems import SheetProblem
from pinco.catalog.store import open_store
from preprocessing.canvas import Placement


@dataclass(frozen=True)
class CatalogRequest:
    """What somebody asks for, as addresses: sheet and catalog to read, store to write, and which part of it.

    only: SKUs, none = all. limit: at most so many images now. redo: make again what is there.
    """

    sheet: str
    catalog: str
    store: str
    only: tuple[str, ...] = ()
    limit: int | None = None
    redo: bool = False


def sheet_settings(settings: Settings) -> SheetSettings:
    """What names in a sheet mean, and what holds where it says nothing. Raises ChannelError."""
    return SheetSettings(
        channels=read_channels(settings.channels),
        templates=settings.templates,
        channel=settings.sheet.channel,
        placement=Placement(settings.sheet.placement, settings.sheet.scale, settings.sheet.padding),
        negative=settings.sheet.negative,
        working_pixels=working_pixels(settings.model),
    )


def validate(sheet: str, catalog: str, settings: Settings) -> list[SheetProblem]:
    """Check a sheet without reading a photo. Returns the warnings; raises SheetErrors with everything that is wrong."""
    read = read_sheet(sheet, endpoint=settings.s3_endpoint)
    found = read_catalog(catalog, endpoint=settings.s3_endpoint)
    return check_sheet(read, found, sheet_settings(settings), endpoint=settings.s3_endpoint)


def plan_catalog(request: CatalogRequest, settings: Settings) -> Plan:
    """What the request leaves to be made. Raises SheetErrors and StoreError."""
    endpoint = settings.s3_endpoint
    return make_plan(
        read_sheet(request.sheet, endpoint=endpoint),
        read_catalog(request.catalog, endpoint=endpoint),
        sheet_settings(settings),
        open_store(request.store, endpoint=endpoint),
        endpoint=endpoint,
        only=request.only,
        limit=request.limit,
        redo=request.redo,
    )


def adopt(store_uri: str, run_id: str, settings: Settings) -> int:
    """Commit what an earlier run wrote but did not live to commit; returns the number of rows."""
    commit = adopt_orphans(CommitLog(open_store(store_uri, endpoint=settings.s3_endpoint)), run_id)
    return commit.rows if commit else 0


def run_spec(run_id: str, store_uri: str, settings: Settings) -> RunSpec:
    """What all takes of a run have in common."""
    return RunSpec(
        run_id=run_id,
        store_uri=absolute(store_uri),
        channels=read_channels(settings.channels),
        s3_endpoint=settings.s3_endpoint,
        shadow=settings.finish.shadow,
        rules=settings.quality,
    )


def new_run_id() -> str:
    """A name that sorts by time and is no other run's."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
