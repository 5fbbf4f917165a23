"""Stores, jobs and rows for the catalog's tests."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from PIL import Image

from pinco.catalog.ids.identity import GenerationIdentity, Recipe
from pinco.catalog.ids.job import Job
from pinco.catalog.manifest.schema import Row
from pinco.catalog.store.access import StoreAccess, open_store
from pinco.catalog.store.base import Store
from preprocessing.canvas import Placement

_buckets = itertools.count()


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    """A fresh bucket."""
    name = f"bucket-{next(_buckets)}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store, once in a folder and once on S3."""
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    endpoint, name = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("bucket")
    return StoreAccess(endpoint).open(f"s3://{name}/some/prefix")


@pytest.fixture
def folder_store(tmp_path: Path) -> Store:
    """An empty store in a folder."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture(scope="session")
def make_job() -> Callable[..., Job]:
    """A job; any field can be given."""

    def make(**given: Any) -> Job:
        fields: dict[str, Any] = {
            "row": 2,
            "source_uri": "/photos/0042.png",
            "sku": "0042",
            "source_sha256": "ab" * 32,
            "prompt": "on a wooden table",
            "negative": None,
            "channel": "square",
            "placement": Placement("original", None, 0.08),
            "working_size": (128, 128),
            "delivery_size": (512, 512),
            "variant": 0,
            "seed": 7,
        }
        return Job.planned(**{**fields, **given})

    return make


@pytest.fixture(scope="session")
def make_identity(make_job: Callable[..., Job]) -> Callable[..., GenerationIdentity]:
    """A generation's identity; any field can be given."""

    def make(**given: Any) -> GenerationIdentity:
        job = make_job()
        fields: dict[str, Any] = {
            "job_id": job.job_id,
            "seed": job.seed,
            "steps": 20,
            "guidance": 3.5,
            "true_cfg": 4.0,
            "max_sequence_length": 64,
            "scheduler": "FlowMatchEulerDiscreteScheduler",
            "dtype": "float32",
            "blending": False,
            "prune": True,
            "adapter_scale": 1.0,
            "cutout_recipe": "c1",
            "backbone_sha256": "bb" * 32,
            "adapter_sha256": "aa" * 32,
            "shadow": "none",
            "working_size": (128, 128),
            "delivery_size": (512, 512),
            "format": "png",
            "quality": 90,
        }
        return GenerationIdentity(**{**fields, **given})

    return make


@pytest.fixture(scope="session")
def make_row(make_job: Callable[..., Job], make_identity: Callable[..., GenerationIdentity]) -> Callable[..., Row]:
    """A row of job number `number`: an image by default, a failure where the status says so."""

    def make(number: int = 0, status: str = "ok", run_id: str = "run-a", **given: Any) -> Row:
        job = make_job(sku=f"{number:04d}", row=number + 2)
        outcome: dict[str, Any] = {"created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "attempts": 1}
        if status in ("failed", "quarantined"):
            outcome |= {"error_type": "EmptyPhotoError", "error_message": "The photo is empty."}
        else:
            identity = make_identity(job_id=job.job_id)
            outcome |= {
                "generation_id": identity.generation_id(),
                "recipe": Recipe(job.ask, identity).to_json(),
                "image_uri": f"images/{identity.generation_id()}-0123456789abcdef.png",
                "image_sha256": "cd" * 32,
                "seconds": 2.0,
            }
        return Row.of(job, run_id=run_id, status=status, **{**outcome, **given})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def photo_bytes() -> Callable[..., bytes]:
    """An encoded picture of one colour."""

    def make(size: tuple[int, int] = (60, 40), kind: str = "PNG", colour: str = "red") -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size, colour).save(buffer, kind)
        return buffer.getvalue()

    return make
