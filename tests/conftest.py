"""What holds for every test: no home folder, no account, no network name of the person who runs them.

Also the fixtures that several folders share: the untrained toy, one product photo, one job. They import what they need
when they are asked for, so that a test of one parser starts without torch.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pinco.catalog.ids.job import Job
    from pinco.catalog.manifest.schema import Row
    from pinco.generation.model import Model
    from pinco.generation.settings import ModelSettings
    from pinco.generation.take import RunSpec

# Set before anything imports torch, Ray, Prefect or boto3; worker processes inherit it.
_PREFECT_HOME = tempfile.mkdtemp(prefix="pinco-test-prefect-")
_CACHE_HOME = tempfile.mkdtemp(prefix="pinco-test-cache-")  # where fingerprints of weights are remembered
for _folder in (_PREFECT_HOME, _CACHE_HOME):
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)

for _name in [name for name in os.environ if name.startswith(("PINCO_", "AWS_"))]:
    del os.environ[_name]

os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    OMP_WAIT_POLICY="passive",
    PREFECT_HOME=_PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="180",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_niceness="0",  # Ray's own 15 leaves its workers 2 % of a core beside anything else that is busy
    XDG_CACHE_HOME=_CACHE_HOME,
)

# The same examples on every machine, and no example fails for being slow on a busy one.
settings.register_profile("pinco", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("pinco")


@pytest.fixture(scope="session")
def exchanged_profile() -> bytes:
    """A profile whose effect is plain to see: sRGB with red and green exchanged."""
    from PIL import ImageCms

    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(int.from_bytes(data[128:132], "big"))}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pinco.toy.model.untrained import make_untrained

    return make_untrained(tmp_path_factory.mktemp("toy"), seed=0)


@pytest.fixture(scope="session")
def model_settings(toy: Path) -> ModelSettings:
    from pinco.generation.settings import ModelSettings

    return ModelSettings(
        backbone=str(toy / "backbone"), adapter=str(toy / "adapter"), device="cpu", steps=2, working_pixels=64 * 64
    )


@pytest.fixture(scope="session")
def model(model_settings: ModelSettings) -> Model:
    from pinco.generation.model import Model

    return Model(model_settings, threads=1)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A disc of 80 pixels on a photo of 120, cut out by its own alpha."""
    import cv2
    import numpy as np

    rgba = np.zeros((120, 120, 4), np.uint8)
    cv2.circle(rgba, (60, 60), 40, (40, 215, 90, 255), -1)
    path = tmp_path / "ball.png"
    cv2.imwrite(str(path), rgba)
    return path


@pytest.fixture
def new_job(photo: Path) -> Callable[..., Job]:
    from pinco.catalog.ids.job import Job
    from preprocessing.canvas import Placement

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
    from pinco.catalog.sheet.channels import Channel
    from pinco.generation.take import RunSpec

    return RunSpec(run_id="night", store_uri=str(tmp_path / "store"), channels={"small": Channel("small", (96, 96))})


@pytest.fixture
def failed(new_job: Callable[..., Job]) -> Callable[..., Row]:
    """A failed row of the job with this variant."""
    from pinco.catalog.manifest.schema import Row

    def make(variant: int = 0, **outcome: Any) -> Row:
        outcome = {"error_type": "empty_photo", "error_message": "The photo is empty."} | outcome
        return Row.of(new_job(variant=variant), run_id="night", status="failed", attempts=1, **outcome)

    return make


@pytest.fixture(scope="session")
def ray_running() -> None:
    """One Ray per pytest process, with room for two runs at once; Ray ends itself when the process does."""
    from flows.driver.ray_session import RaySession
    from flows.settings import RaySettings

    RaySession(RaySettings(object_store_mib=200, generators=5)).wait()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 server on loopback, in its own process: delta-rs holds Python's lock during some of its requests."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, "the S3 server did not start"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(autouse=True)
def loggers_enabled() -> None:
    """Libraries that configure logging when they are used switch off all loggers that are there already."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] in ("flows", "pinco", "preprocessing") and isinstance(logger, logging.Logger):
            logger.disabled = False
