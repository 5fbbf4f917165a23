"""From addresses and settings to a plan. Imports neither Ray nor Prefect nor torch: planning is quick everywhere."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from flows.settings import Settings
from pinco.catalog.manifest.table import ManifestTable, open_manifest
from pinco.catalog.photos.listing import read_catalog
from pinco.catalog.plan.planner import Plan, check_sheet, make_plan, plan_retry
from pinco.catalog.sheet.channels import read_channels
from pinco.catalog.sheet.image_requests import SheetSettings
from pinco.catalog.sheet.problems import SheetProblem
from pinco.catalog.sheet.reader import Sheet, read_sheet
from pinco.catalog.store.address import absolute
from pinco.generation.channel_methods import ChannelMethods
from pinco.generation.take import RunSpec
from pinco.generation.weights import canvas_size
from preprocessing.canvas import Placement


@dataclass(frozen=True)
class CatalogRequest:
    """The images of a prompt sheet, as addresses.

    Attributes:
        sheet: The prompt sheet: a path or an s3:// address.
        catalog: The product photos: a folder, a prefix or a table.
        store: Where images and manifest go.
        only: Only these SKUs; none = all.
        limit: Make at most so many images now.
        redo: Make images again that are done.
    """

    sheet: str
    catalog: str
    store: str
    only: tuple[str, ...] = ()
    limit: int | None = None
    redo: bool = False


@dataclass(frozen=True)
class RetryRequest:
    """The images of an earlier run that failed or are quarantined, to be made whatever the reason was.

    Attributes:
        store: The store of that run.
        run: Its id.
    """

    store: str
    run: str


RunRequest = CatalogRequest | RetryRequest
"""What a run can be asked for."""


def sheet_settings(settings: Settings) -> SheetSettings:
    """What names in a sheet mean, and what holds where it says nothing.

    Raises:
        ChannelError: A channel of the settings is not valid.
    """
    size = canvas_size(settings.model)
    return SheetSettings(
        channels=read_channels(settings.channels),
        templates=settings.templates,
        channel=settings.sheet.channel,
        placement=Placement(settings.sheet.placement, settings.sheet.scale, settings.sheet.padding),
        negative=settings.sheet.negative,
        working_pixels=size.pixels,
        multiple=size.multiple,
    )


def validate(sheet: str, catalog: str, settings: Settings) -> list[SheetProblem]:
    """Check a sheet without reading a photo, and return the warnings.

    Raises:
        SheetError: With all errors at once.
        MethodError: The method of a channel is not possible with the weights of the settings.
    """
    read = read_sheet(sheet, access=settings.access)
    _advice(_channels_of(read, settings), settings)
    found = read_catalog(catalog, access=settings.access)
    return check_sheet(read, found, sheet_settings(settings), access=settings.access)


def plan_run(
    request: RunRequest, settings: Settings, table: ManifestTable | None = None, *, save_sources: bool = False
) -> Plan:
    """What a request leaves to be made, judged by the manifest of its store.

    Args:
        request: What is asked for.
        settings: How it is carried out.
        table: The manifest, where it is open already; None = it is opened.
        save_sources: Keep the hashes of new photos in the store. Without it nothing is written.

    Raises:
        SheetError: The sheet, the catalog or a photo has errors.
        MethodError: The method of a channel is not possible with the weights of the settings.
        UnknownRunError: There is no run of that name to retry.
        StoreError: The store cannot be used.
    """
    table = table or open_manifest(request.store, settings.access)
    if isinstance(request, RetryRequest):
        plan = plan_retry(table, request.run)
        return replace(plan, advice=_advice({job.channel for job in plan.work}, settings))
    sheet = read_sheet(request.sheet, access=settings.access)
    advice = _advice(_channels_of(sheet, settings), settings)  # before photos are read: a method may be impossible
    plan = make_plan(
        sheet,
        read_catalog(request.catalog, access=settings.access),
        sheet_settings(settings),
        table,
        access=settings.access,
        only=request.only,
        limit=request.limit,
        redo=request.redo,
        save_sources=save_sources,
    )
    return replace(plan, advice=advice if plan.work else None)


def _channels_of(sheet: Sheet, settings: Settings) -> set[str]:
    return {row.channel or settings.sheet.channel for row in sheet.rows}


def _advice(names: Collection[str], settings: Settings) -> str | None:
    """What to say about the methods of these channels; unknown names are the sheet's affair."""
    channels = read_channels(settings.channels)
    return ChannelMethods(settings.model).advice([channels[name] for name in names if name in channels])


def run_spec(run_id: str, store_uri: str, settings: Settings) -> RunSpec:
    """What all takes of a run have in common."""
    return RunSpec(
        run_id=run_id,
        store_uri=absolute(store_uri),
        channels=read_channels(settings.channels),
        access=settings.access,
        shadow=settings.finish.shadow,
        rules=settings.quality,
    )


def new_run_id() -> str:
    """A name that sorts by time and is no other run's."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
