"""Rows of the sheet, combined with catalog, channels and templates, become image requests.

Everything that can be checked without reading a photo is checked here, and all errors are reported together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pinco.catalog.ids.job import MAX_SEED
from pinco.catalog.photos.finder import PhotoFinder
from pinco.catalog.photos.listing import Catalog, CatalogPhoto
from pinco.catalog.sheet.channels import BUILT_IN, Channel
from pinco.catalog.sheet.expand import ExpandError, expand
from pinco.catalog.sheet.problems import Problems, did_you_mean, one_of
from pinco.catalog.sheet.reader import VARIABLE, Sheet, SheetRow
from pinco.catalog.sheet.template import TemplateError, is_template, one_line, prompt_template
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess
from pinco.catalog.store.base import ObjectInfo
from preprocessing.canvas import Placement


@dataclass(frozen=True)
class SheetSettings:
    """Defaults for what a sheet leaves out, and the channels and templates that it names.

    Attributes:
        channels: By name.
        templates: Sources by name.
        channel: Name of the default channel.
        placement: Default kind, scale and padding.
        negative: Default negative prompt.
        working_pixels: About how many pixels the backbone works on.
        multiple: What both sides of its canvas are multiples of, in pixels.
    """

    channels: Mapping[str, Channel] = field(default_factory=lambda: dict(BUILT_IN))
    templates: Mapping[str, str] = field(default_factory=dict)
    channel: str = "square"
    placement: Placement = field(default_factory=Placement)
    negative: str | None = None
    working_pixels: int = 128 * 128
    multiple: int = 16


@dataclass(frozen=True)
class ImageRequest:
    """One image as the sheet asks for it, before its photo is read.

    Attributes:
        row: Number of the sheet's row.
        sku: The product.
        photo_uri: Address of its photo.
        photo: What the store knows of the photo.
        prompt: Filled in.
        negative: Negative prompt.
        channel: With the row's own size, where it has one.
        placement: How the product is placed.
        variant: 0 for the first image of a prompt.
        seed: None = derived from the rest.
    """

    row: int
    sku: str
    photo_uri: str
    photo: ObjectInfo
    prompt: str
    negative: str | None
    channel: Channel
    placement: Placement
    variant: int
    seed: int | None


def resolve_rows(
    sheet: Sheet, catalog: Catalog, settings: SheetSettings, problems: Problems, access: StoreAccess = DEFAULT_ACCESS
) -> list[ImageRequest]:
    """The requests of all valid rows.

    Args:
        sheet: The rows.
        catalog: The photos and variables of the products.
        settings: Defaults, channels and templates.
        problems: Where errors and warnings are added.
        access: For S3.
    """
    finder = PhotoFinder(sheet.path, catalog, access)
    finder.look_up(sheet.rows)
    requests: list[ImageRequest] = []
    for row in sheet.rows:
        before = len(problems.errors)
        found = finder.find(row, problems) if row.sku else None
        channel = _channel(row, settings, problems)
        prompts = _prompts(row, found[0] if found else None, settings, problems)
        if found is None or channel is None or len(problems.errors) > before:
            continue
        photo, info = found
        placement = Placement(
            row.placement or settings.placement.kind,
            settings.placement.scale if row.scale is None else row.scale,
            settings.placement.padding,
        )
        requests += [
            ImageRequest(
                row=row.row,
                sku=row.sku,
                photo_uri=photo.uri,
                photo=info,
                prompt=prompt,
                negative=row.negative or settings.negative,
                channel=channel,
                placement=placement,
                variant=variant,
                seed=None if row.seed is None else (row.seed + variant) % (MAX_SEED + 1),
            )
            for prompt in prompts
            for variant in range(row.n)
        ]
    return requests


def _channel(row: SheetRow, settings: SheetSettings, problems: Problems) -> Channel | None:
    name = row.channel or settings.channel
    channel = settings.channels.get(name)
    if channel is None:
        hint = did_you_mean(name, settings.channels) or one_of(settings.channels)
        problems.error("this channel is unknown", row=row.row, column="channel", value=name, hint=hint)
        return None
    if row.size is None:
        return channel
    return replace(channel, size=row.size)


def _prompts(row: SheetRow, photo: CatalogPhoto | None, settings: SheetSettings, problems: Problems) -> list[str]:
    """The row's prompts, without repeats."""
    if row.prompt is not None:
        if row.variables:
            names = ", ".join(VARIABLE + name for name in row.variables)
            problems.warn(
                f"{names} is filled in, but a prompt is used word for word",
                row=row.row,
                column="prompt",
                value=row.prompt,
                hint="Move the text to the column template if it has variables to fill in.",
            )
        elif is_template(row.prompt):
            problems.warn(
                "this prompt has braces in it, but is used word for word",
                row=row.row,
                column="prompt",
                value=row.prompt,
                hint="Move it to the column template to have them filled in.",
            )
        try:
            return [one_line(row.prompt)]
        except TemplateError as error:
            problems.error(str(error), row=row.row, column="prompt", value=row.prompt)
            return []
    text = row.template
    if text is None:
        return []
    source = settings.templates.get(text, text)
    if text not in settings.templates and not is_template(text):
        hint = did_you_mean(text, settings.templates) or one_of(settings.templates)
        problems.error(
            "there is no template of this name in the settings",
            row=row.row,
            column="template",
            value=text,
            hint=f"{hint} A text without {{{{ ... }}}} belongs in the column prompt.".strip(),
        )
        return []
    return _filled(row, source, photo, problems)


def _filled(row: SheetRow, source: str, photo: CatalogPhoto | None, problems: Problems) -> list[str]:
    try:
        template = prompt_template(source)
        combinations = expand(row.variables, row.expand)
    except TemplateError as error:
        problems.error(str(error), row=row.row, column="template", value=row.template)
        return []
    except ExpandError as error:
        problems.error(str(error), row=row.row, column="expand", value=row.expand)
        return []
    known = {"sku": row.sku, **(photo.variables if photo else {})}
    names = {*known, *row.variables}
    used = template.required | template.optional
    for name in sorted(row.variables.keys() - used):
        problems.warn(
            "the template does not use this variable",
            row=row.row,
            column=VARIABLE + name,
            hint=did_you_mean(name, used) or one_of(used),
        )
    missing = sorted(template.required - names)
    # Without the photo the catalog's columns are unknown: then the error of the sku is enough.
    for name in missing if photo else ():
        problems.error(
            f"{{{{ {name} }}}} has no value",
            row=row.row,
            column="template",
            value=row.template,
            hint=did_you_mean(name, names) or f"Add a column {VARIABLE}{name}, or fill it in for this product.",
        )
    if missing or not photo:
        return []
    prompts: dict[str, None] = {}
    for values in combinations:
        try:
            prompts[template.render({**known, **values})] = None
        except TemplateError as error:
            problems.error(str(error), row=row.row, column="template", value=row.template)
            return []
    return list(prompts)
