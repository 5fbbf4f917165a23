"""One product, one spec and the untrained toy, for tests of single modules."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from flows.model import Model
from flows.ray_session import RaySession
from flows.settings import ModelSettings, RaySettings
from flows.take import RunSpec
from pinco.catalog.channels import Channel
from pinco.catalog.job import Job
from pinco.catalog.manifest import Row
from pinco.toy.untrained import make_untrained
from preprocessing.canvas import Placement

# Fingerprints of weights are remembered per user; tests have a user of their own, and so have their Ray workers.
os.environ.setdefault("XDG_CACHE_HOME", tempfile.mkdtemp(prefix="pinco-test-cache-"))


@pytest.fixture(scope="session")
def ray_running() -> None:
    """One Ray per pytest process, shared with the other folders; Ray ends itself when the process does."""
    RaySession(RaySettings(object_store_mib=200, generators=5)).wait()


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_untrained(tmp_path_factory.mktemp("toy"), seed=0)


@pytest.fixture(scope="session")
def model_settings(toy: Path) -> ModelSettings:
    return ModelSettings(
        backbone=str(toy / "backbone"), adapter=str(toy / "adapter"), device="cpu", steps=2, working_pixels=64 * 64
    )


@pytest.fixture(scope="session")
def model(model_settings: ModelSettings) -> Model:
    return Model(model_settings, threads=1)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A disc of 80 pixels on a photo of 120, cut out by its own alpha."""
    rgba = np.zeros((120, 120, 4), np.uint8)
    cv2.circle(rgba, (60, 60), 40, (40, 215, 90, 255), -1)
    path = tmp_path / "ball.png"
    cv2.imwrite(str(path), rgba)
    return path


@pytest.fixture
def new_job(photo: Path) -> Callable[..., Job]:
    def make(**changes: Any) -> Job:
        fields: dict[str, Any] = {
            "row": 2,
            "source_uri": str(photo),
            "sku": "ball",
            "source_sha256": hashlib.sha256(photo.read_bytes()).hexdigest(),
            "prompt": "a ball on grass",
            "negative": None,
            "channel": "small",
            "placement": Placement(),
            "working_size": (64, 64),
            "delivery_size": (96, 96),
            "variant": 0,
            "seed": None,
        }
        return Job.planned(**fields | changes)

    return make


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return RunSpec(run_id="night", store_uri=str(tmp_path / "store"), channels={"small": Channel("small", (96, 96))})


@pytest.fixture
def failed(new_job: Callable[..., Job]) -> Callable[..., Row]:
    """A failed row of the job with this variant."""

    def make(variant: int = 0, **outcome: Any) -> Row:
        outcome = {"error_type": "empty_photo", "error_message": "The photo is empty."} | outcome
        return Row.of(new_job(variant=variant), run_id="night", status="failed", attempts=1, **outcome)

    return make
