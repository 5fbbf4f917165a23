"""The manifest: one row per requested image, and the only schema that these rows are written with.

Rules of change: new columns are nullable and go to the end, `SCHEMA_VERSION` rises by one, the golden schema test is
renewed. A column is never renamed, retyped or removed, so that years of nights stay one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Literal, Self, cast

import pyarrow as pa

from pinco.catalog.ids.identity import Recipe
from pinco.catalog.ids.job import Job
from preprocessing.canvas import Placement

SCHEMA_VERSION = 4
VERSION_KEY = b"pinco.manifest.schema_version"

Status = Literal["ok", "review", "rejected", "failed", "quarantined"]
STATUSES: tuple[Status, ...] = ("ok", "review", "rejected", "failed", "quarantined")
DONE: frozenset[str] = frozenset({"ok", "review", "rejected"})
"""An image was made. Its job is not run again unless somebody asks for exactly that."""


def _column(name: str, kind: pa.DataType, *, required: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=not required)


_UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")

SCHEMA = pa.schema(
    [
        _column("job_id", pa.string(), required=True),
        _column("generation_id", pa.string()),
        _column("run_id", pa.string(), required=True),
        _column("row", pa.int32(), required=True),
        # what was asked
        _column("sku", pa.string(), required=True),
        _column("source_uri", pa.string(), required=True),
        _column("source_sha256", pa.string(), required=True),
        _column("prompt", pa.string(), required=True),
        _column("negative", pa.string()),
        _column("channel", pa.string(), required=True),
        _column("placement", pa.string(), required=True),
        _column("placement_scale", pa.float64()),
        _column("placement_padding", pa.float64(), required=True),
        _column("working_width", pa.int32(), required=True),
        _column("working_height", pa.int32(), required=True),
        _column("delivery_width", pa.int32(), required=True),
        _column("delivery_height", pa.int32(), required=True),
        _column("variant", pa.int32(), required=True),
        _column("seed", pa.int64(), required=True),
        # how it ended
        _column("status", pa.string(), required=True),
        _column("reason", pa.string()),
        _column("error_type", pa.string()),
        _column("error_message", pa.string()),
        _column("transient", pa.bool_(), required=True),
        _column("attempts", pa.int32(), required=True),
        # what was made
        _column("image_uri", pa.string()),
        _column("image_sha256", pa.string()),
        _column("pixels_sha256", pa.string()),
        _column("width", pa.int32()),
        _column("height", pa.int32()),
        _column("format", pa.string()),
        # how good it is
        _column("core_identical", pa.bool_()),
        _column("extension", pa.float64()),
        _column("shrinkage", pa.float64()),
        _column("not_scored", pa.list_(pa.field("element", pa.string()))),
        _column("mask_method", pa.string()),
        _column("mask_confidence", pa.float64()),
        # what made it
        _column("backbone", pa.string()),
        _column("backbone_sha256", pa.string()),
        _column("adapter_sha256", pa.string()),
        _column("recipe", pa.string()),
        _column("device", pa.string()),
        _column("threads", pa.int32()),
        _column("environment", pa.string()),
        _column("seconds", pa.float64()),
        _column("created_at", _UTC_MICROSECONDS, required=True),
        # since version 2
        _column("sequence", pa.int64()),
        # since version 3
        _column("image_bytes", pa.int64()),
        # since version 4
        _column("method", pa.string()),
        _column("controlnet_sha256", pa.string()),
    ],
    metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the manifest; the fields are the columns of `SCHEMA`, in its order.

    The guide to the manifest (docs/guides/manifest.md) describes every column.

    Attributes:
        seed: The seed used, which a retry may have changed; `recipe` has the one asked for (without a recipe they are
            the same).
        reason: Why the row is `review` or `rejected`, for a person to read.
        error_type: Kind of the error; only where status is failed or quarantined.
        error_message: The same for a marketer.
        transient: The failure came from outside (a lost machine, a dead store): the next run tries again.
        attempts: How many times making this image was begun.
        image_uri: The image's place in the store, `images/...`; a row that a reader gives has its full address.
        width: Of the delivered file, in pixels; null where there is none. `delivery_width` is what was asked.
        height: The same.
        pixels_sha256: Of the delivered pixels (u8, `[H, W, 3]`, C order), whatever their file says.
        extension: Growth as a share of the product's area (arXiv 2404.10157). `not_scored` names unmeasured ones.
        shrinkage: Loss as a share of the product's area.
        recipe: `identity.Recipe` as JSON: what replay needs beside photo and weights.
        threads: CPU threads of the generating process; the bytes of a CPU image depend on it.
        environment: JSON of processor type and package versions that the bytes depend on.
        seconds: Wall time that making this image took.
        sequence: The table's version that the row came with, None before that. Of several rows of one job the one with
            the highest is visible among those that are done, or where none is, among all. Rows with equal content are
            equal whatever their sequence.
        image_bytes: Size of the delivered file.
        method: By what the image came to match its product (`pinco.method_names`).
    """

    job_id: str
    generation_id: str | None = None
    run_id: str
    row: int
    sku: str
    source_uri: str
    source_sha256: str
    prompt: str
    negative: str | None = None
    channel: str
    placement: str
    placement_scale: float | None = None
    placement_padding: float
    working_width: int
    working_height: int
    delivery_width: int
    delivery_height: int
    variant: int
    seed: int
    status: Status
    reason: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    transient: bool = False
    attempts: int
    image_uri: str | None = None
    image_sha256: str | None = None
    pixels_sha256: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    core_identical: bool | None = None
    extension: float | None = None
    shrinkage: float | None = None
    not_scored: tuple[str, ...] = ()
    mask_method: str | None = None
    mask_confidence: float | None = None
    backbone: str | None = None
    backbone_sha256: str | None = None
    adapter_sha256: str | None = None
    recipe: str | None = None
    device: str | None = None
    threads: int | None = None
    environment: str | None = None
    seconds: float | None = None
    created_at: datetime
    sequence: int | None = field(default=None, compare=False)
    image_bytes: int | None = None
    method: str | None = None
    controlnet_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, not {self.status!r}")
        if self.status in DONE and not (self.generation_id and self.image_uri and self.image_sha256 and self.recipe):
            raise ValueError(f"a row that is {self.status} must name its generation, image, hash and recipe")
        if self.status not in DONE and not (self.error_type and self.error_message):
            raise ValueError(f"a row that is {self.status} must say why: error_type and error_message")

    @classmethod
    def of(cls, job: Job, *, run_id: str, status: Status, attempts: int, **outcome: Any) -> Self:
        """The row of `job`; `outcome` are further fields by name. `created_at` is now unless given."""
        asked: dict[str, Any] = {
            "job_id": job.job_id,
            "row": job.row,
            "sku": job.sku,
            "source_uri": job.source_uri,
            "source_sha256": job.source_sha256,
            "prompt": job.prompt,
            "negative": job.negative,
            "channel": job.channel,
            "placement": job.placement.kind,
            "placement_scale": job.placement.scale,
            "placement_padding": job.placement.padding,
            "working_width": job.working_size[0],
            "working_height": job.working_size[1],
            "delivery_width": job.delivery_size[0],
            "delivery_height": job.delivery_size[1],
            "variant": job.variant,
            "seed": job.seed,
            "created_at": datetime.now(UTC),
        }
        return cls(**{**asked, **outcome}, run_id=run_id, status=status, attempts=attempts)

    def job(self) -> Job:
        """The job that this row is the outcome of.

        Raises:
            ValueError: the row's columns do not make the job that it names.
        """
        seed = self.seed if self.recipe is None else Recipe.from_json(self.recipe).ask.seed
        job = Job(
            row=self.row,
            source_uri=self.source_uri,
            sku=self.sku,
            source_sha256=self.source_sha256,
            prompt=self.prompt,
            negative=self.negative,
            channel=self.channel,
            placement=Placement(cast(Any, self.placement), self.placement_scale, self.placement_padding),
            working_size=(self.working_width, self.working_height),
            delivery_size=(self.delivery_width, self.delivery_height),
            variant=self.variant,
            seed=seed,
        )
        if job.job_id != self.job_id:
            raise ValueError(f"the row of job {self.job_id} does not describe that job")
        return job

    @property
    def settled(self) -> bool:
        """The next run leaves this job alone: it is done, or it failed in a way that a second try does not mend."""
        return is_settled(self.status, self.transient)


def is_settled(status: str, transient: bool) -> bool:
    """Whether a job whose row has this status is left alone by the next run (`pinco retry` runs it all the same)."""
    return status in DONE or not transient


def to_table(rows: Iterable[Row]) -> pa.Table:
    """Rows as an Arrow table of exactly `SCHEMA`."""
    values = list(map(attrgetter(*SCHEMA.names), rows))
    columns = list(zip(*values, strict=True)) if values else [() for _ in SCHEMA]
    arrays = [pa.array(column, type=kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def with_sequence(table: pa.Table, sequence: int) -> pa.Table:
    """The same rows with this sequence."""
    place = SCHEMA.get_field_index("sequence")
    return table.set_column(place, SCHEMA.field(place), pa.repeat(pa.scalar(sequence, pa.int64()), table.num_rows))


def to_rows(table: pa.Table) -> list[Row]:
    """The inverse of `to_table`, for tables that `conform` has seen."""
    return [Row(**{**row, "not_scored": tuple(row["not_scored"] or ())}) for row in table.to_pylist()]


def conform(table: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    """A table as written by this or an older version, brought to today's schema: columns it lacks become null.

    Args:
        table: Rows of any version.
        columns: Only these, in this order; None = all of them.

    Raises:
        ValueError: It was written by a newer version, or is no manifest at all.
    """
    version = schema_version(table.schema)
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"the manifest was written by a newer Pinco (schema {version}, this one reads up to {SCHEMA_VERSION}): "
            "update Pinco"
        )
    chosen = (
        SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns], metadata=SCHEMA.metadata)
    )
    arrays = []
    for column in chosen:
        if column.name in table.column_names:
            arrays.append(table.column(column.name).cast(column.type))
        elif column.nullable:
            arrays.append(pa.nulls(table.num_rows, column.type))
        else:
            raise ValueError(f"this is not a manifest: it has no column {column.name!r}")
    return pa.Table.from_arrays(arrays, schema=chosen)


def schema_version(schema: pa.Schema) -> int:
    """The manifest version named in a schema's metadata.

    Raises:
        ValueError: there is none.
    """
    try:
        return int((schema.metadata or {})[VERSION_KEY])
    except (KeyError, ValueError) as error:
        raise ValueError("this is not a manifest: its metadata names no Pinco schema version") from error
