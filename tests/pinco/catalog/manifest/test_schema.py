from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pinco.catalog.ids.job import Job
from pinco.catalog.manifest.schema import (
    DONE,
    SCHEMA,
    SCHEMA_VERSION,
    STATUSES,
    VERSION_KEY,
    Row,
    conform,
    schema_version,
    to_rows,
    to_table,
)  # fmt: skip

MakeRow = Callable[..., Row]
GOLDEN = Path(__file__).with_name("golden") / "manifest_schema_4.txt"

PROMISED = [
    "job_id",
    "generation_id",
    "run_id",
    "sku",
    "source_uri",
    "source_sha256",
    "prompt",
    "seed",
    "status",
    "error_type",
    "error_message",
    "attempts",
    "image_uri",
    "image_sha256",
    "pixels_sha256",
    "width",
    "height",
    "core_identical",
    "extension",
    "backbone",
    "adapter_sha256",
    "seconds",
]


def test_the_schema_is_the_golden_one() -> None:
    """Changed on purpose? Only nullable columns at the end, a higher version, and a new golden file beside this one."""
    lines = [f"{field.name}: {field.type}{'' if field.nullable else ' not null'}" for field in SCHEMA]
    assert [f"version {SCHEMA_VERSION}", *lines] == GOLDEN.read_text().splitlines()


def test_the_promised_columns_are_there() -> None:
    assert set(PROMISED) <= set(SCHEMA.names)


def test_a_row_has_the_columns_of_the_schema_in_their_order() -> None:
    assert [field.name for field in dataclasses.fields(Row)] == SCHEMA.names


@pytest.mark.parametrize("status", STATUSES)
def test_rows_survive_the_table(make_row: MakeRow, status: str) -> None:
    rows = [make_row(1, status, not_scored=("extension",), width=512), make_row(2, status)]
    table = to_table(rows)
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert to_rows(table) == rows


def test_no_rows_are_an_empty_table() -> None:
    assert to_table([]).schema.equals(SCHEMA, check_metadata=True)


@pytest.mark.parametrize(
    ("status", "missing"),
    [
        ("ok", {"image_uri": None}),
        ("review", {"generation_id": None}),
        ("rejected", {"recipe": None}),
        ("failed", {"error_message": None}),
        ("quarantined", {"error_type": None}),
        ("done", {}),
    ],
)
def test_rows_that_do_not_account_for_their_job_are_refused(
    make_row: MakeRow, status: str, missing: dict[str, None]
) -> None:
    with pytest.raises(ValueError, match="must"):
        make_row(1, status, **missing)


def test_what_the_next_run_leaves_alone(make_row: MakeRow) -> None:
    assert all(make_row(1, status).settled for status in DONE)
    assert make_row(1, "failed").settled
    assert make_row(1, "quarantined").settled
    assert not make_row(1, "failed", transient=True).settled


def test_a_row_gives_its_job_back(make_row: MakeRow, make_job: Callable[..., Job]) -> None:
    job = make_job(sku="0001", row=3)
    assert make_row(1).job() == job
    assert make_row(1, "failed").job() == job
    # A retry with another seed is still the job that was asked for.
    assert make_row(1, seed=99).job() == job


def test_a_row_that_was_tampered_with_gives_no_job(make_row: MakeRow) -> None:
    with pytest.raises(ValueError, match="does not describe that job"):
        dataclasses.replace(make_row(1), prompt="another").job()


def test_older_tables_get_the_columns_they_lack(make_row: MakeRow) -> None:
    older = to_table([make_row(1)]).drop_columns(["environment", "threads"])
    today = conform(older)
    assert today.schema.equals(SCHEMA, check_metadata=True)
    assert today.column("threads").to_pylist() == [None]


def test_chosen_columns_come_in_the_chosen_order(make_row: MakeRow) -> None:
    assert conform(to_table([make_row(1)]), ["status", "sku"]).to_pylist() == [{"status": "ok", "sku": "0001"}]


def test_newer_tables_are_refused(make_row: MakeRow) -> None:
    newer = to_table([make_row(1)]).replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION + 1).encode()})
    with pytest.raises(ValueError, match="update Pinco"):
        conform(newer)


def test_what_is_no_manifest_is_refused() -> None:
    with pytest.raises(ValueError, match="not a manifest"):
        schema_version(pa.schema([("x", pa.int32())]))
    with pytest.raises(ValueError, match="no column 'job_id'"):
        conform(pa.table({"x": [1]}).replace_schema_metadata({VERSION_KEY: b"1"}))
