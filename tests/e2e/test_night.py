"""A night with everything at once: broken photos first, workers killed at random, a store that answers badly."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from pinco.catalog.delivery.images import key_of_image
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import StoreAccess
from pinco.catalog.store.base import Store
from tests.e2e.flaky_proxy import FlakyProxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

PHOTOS, BROKEN_EACH, KILLS = 300, 3, 6
SPOILED = 0.03
"""Share of the store's answers that are bad."""


def product(number: int, suffix: str = "PNG", **options: Any) -> bytes:
    """A round product, 120 pixels, on nothing (PNG) or on white."""
    rgba = np.zeros((120, 120, 4), np.uint8)
    colour = (40 + number % 180, 200 - number % 160, (number * 7) % 200, 255)
    cv2.circle(rgba, (60, 60), 40, colour, -1)
    cv2.rectangle(rgba, (35, 50), (85, 60 + number % 8), (20, 20, 20, 255), -1)
    picture = Image.fromarray(rgba)
    if suffix != "PNG":
        ground = Image.new("RGB", picture.size, "white")
        ground.paste(picture, mask=picture)
        picture = ground
    out = io.BytesIO()
    picture.save(out, suffix, **options)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and has none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", 0)


def flipped(data: bytes, seed: int) -> bytes:
    """Some bytes changed, beyond the first ones."""
    chance, changed = random.Random(seed), bytearray(data)
    for _ in range(40):
        changed[chance.randrange(30, len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def uniform(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (90, 90), (colour,) * 3).save(out, "PNG")
    return out.getvalue()


def transparent() -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (90, 90), (9, 9, 9, 0)).save(out, "PNG")
    return out.getvalue()


BROKEN: dict[str, Callable[[int], bytes]] = {
    "exif": lambda n: product(n, "JPEG", exif=b"Exif\0\0garbage" * (n + 1)),
    "exif-orientation": lambda n: product(
        n, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff\0"
    ),
    "truncated": lambda n: product(n)[: 200 + 10 * n],
    "truncated-jpeg": lambda n: product(n, "JPEG")[: 700 + n],
    "empty": lambda n: b"",
    "one-byte": lambda n: b"\x89",
    "text": lambda n: b"sku,prompt\nthis is a sheet\n",
    "html": lambda n: b"<html><body>404 not found</body></html>",
    "pdf": lambda n: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
    "zip": lambda n: b"PK\x03\x04" + bytes(200),
    "bomb": lambda n: png_header(60_000, 60_000),
    "bomb-wide": lambda n: png_header(2_000_000, 4),
    "zero-size": lambda n: png_header(0, 0),
    "bits": lambda n: flipped(product(n), n),
    "bits-jpeg": lambda n: flipped(product(n, "JPEG"), n),
    "dds": lambda n: b"DDS " + bytes(124) + bytes(16),
    "avif": lambda n: b"\0\0\0\x20ftypavif" + bytes(60),
    "transparent": lambda n: transparent(),
    "uniform": lambda n: uniform(255),
    "forbidden": lambda n: product(n),  # the store refuses to hand it out
}

MID_RUN = {"gone": "photo_missing", "replaced": "photo_changed"}
"""What happens to good photos while the run goes on, and what their rows say then."""

REASONS = {
    "truncated": "truncated_photo",
    "truncated-jpeg": "truncated_photo",
    "empty": "empty_photo",
    "one-byte": "not_a_photo",
    "text": "not_a_photo",
    "html": "not_a_photo",
    "pdf": "not_a_photo",
    "zip": "not_a_photo",
    "bomb": "photo_too_large",
    "bomb-wide": "truncated_photo",
    "zero-size": "truncated_photo",
    "bits": "truncated_photo",
    "dds": "unsupported_photo",
    "avif": "unsupported_photo",
    "transparent": "no_product_found",
    "uniform": "no_product_found",
    "forbidden": "photo_unreadable",
}
"""What the rows of broken photos say. The others can be used: damaged EXIF costs nothing, and decoders forgive bits."""


class Killer(threading.Thread):
    """Ends a worker of the driver's Ray now and then, at most two between two images that are finished.

    Three inference actors in a row that die while they load are a broken system, and end a run.
    """

    def __init__(self, driver: int, images: Callable[[], int], seed: int) -> None:
        super().__init__(daemon=True)
        self._driver, self._images, self._random = psutil.Process(driver), images, random.Random(seed)
        self.killed: list[str] = []

    def run(self) -> None:
        since, there = 0, 0
        while len(self.killed) < KILLS and self._driver.is_running():
            time.sleep(self._random.uniform(2, 5))
            if (now := self._images()) > there:
                since, there = 0, now
            if since < 2 and (name := self._kill_one()):
                self.killed.append(name)
                since += 1

    def _kill_one(self) -> str | None:
        try:
            children = self._driver.children(recursive=True)
            workers = [one for one in children if one.name().startswith(("ray::Generator", "ray::Preproc"))]
            if not workers:
                return None
            victim = self._random.choice(workers)
            name = victim.name()
            victim.send_signal(signal.SIGKILL)
            return name
        except psutil.Error:  # it ended first
            return None


class Night:
    """The shop's bucket and the run in it."""

    def __init__(self, endpoint: str) -> None:
        self.client = boto3.client("s3", endpoint_url=endpoint)
        self.broken = [f"a-{kind}-{number}" for number in range(BROKEN_EACH) for kind in BROKEN]
        self.late = [f"m-{kind}-{number}" for number in range(BROKEN_EACH) for kind in MID_RUN]
        self.good = [f"z-{number:03d}" for number in range(PHOTOS - len(self.broken))]
        # The broken ones first; what changes during the run comes last, when its turn is far away.
        self.skus = [*self.broken, *self.good, *self.late]
        self.client.create_bucket(Bucket="night")

    def fill(self) -> None:
        for number, sku in enumerate(self.broken):
            suffix = ".jpg" if "jpeg" in sku or "exif" in sku else ".png"
            self._put(f"photos/{sku}{suffix}", BROKEN[kind_of(sku)](number))
        for number, sku in enumerate([*self.late, *self.good]):
            self._put(f"photos/{sku}.png", product(number))
        lines = [f"{sku},a thing on grass,small" for sku in self.skus]
        self._put("sheet.csv", "\n".join(["sku,prompt,channel", *lines]).encode())

    def change_photos(self) -> None:
        for number, sku in enumerate(self.late):
            if kind_of(sku) == "gone":
                self.client.delete_object(Bucket="night", Key=f"photos/{sku}.png")
            else:
                self._put(f"photos/{sku}.png", product(number + 50))

    def images(self) -> int:
        return int(self.client.list_objects_v2(Bucket="night", Prefix="out/images/")["KeyCount"])

    def _put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket="night", Key=key, Body=data)


def kind_of(sku: str) -> str:
    return sku[2:].rpartition("-")[0]


@pytest.fixture
def ray_home() -> Iterator[Path]:
    """Where the run's temporary files go; a short path, because Ray puts sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="pn-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_night_with_everything_at_once(s3_endpoint: str, small: Any, ray_home: Path, tmp_path: Path) -> None:
    night = Night(s3_endpoint)
    night.fill()
    proxy = FlakyProxy(s3_endpoint, share=SPOILED, seed=5)
    environment = os.environ | {
        "PINCO_MODEL__BACKBONE": str(small.model.backbone),
        "PINCO_MODEL__ADAPTER": str(small.model.adapter),
        "PINCO_MODEL__STEPS": "1",
        "PINCO_MODEL__WORKING_PIXELS": str(small.model.working_pixels),
        "PINCO_RAY__OBJECT_STORE_MIB": "100",
        "PINCO_CHANNELS": '{"small": {"size": "96x96"}}',
        "TMPDIR": str(ray_home),
    }
    words = ["run", "s3://night/sheet.csv", "--catalog", "s3://night/photos", "--store", "s3://night/out"]
    command = [sys.executable, "-m", "flows.cli", *words, "--s3-endpoint", proxy.endpoint]
    log, shared = tmp_path / "run.log", set(os.listdir("/dev/shm"))
    with log.open("w") as out:  # a pipe that nobody reads would fill up and stop the run
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    family = {psutil.Process(process.pid)}
    killer = Killer(process.pid, night.images, seed=6)
    killer.start()
    try:
        while process.poll() is None and not night.images():
            family |= children_of(process)
            time.sleep(0.2)
        night.change_photos()
        while process.poll() is None:
            family |= children_of(process)
            time.sleep(0.2)
    finally:
        process.kill()
        proxy.close()
    output = log.read_text()
    assert process.returncode == 0, output
    assert len(killer.killed) >= 2 and len(proxy.spoiled) == 5 and proxy.spoiled.total() > 20, (killer, proxy.spoiled)

    _, alive = psutil.wait_procs(family, timeout=60)
    assert [one.name() for one in alive] == [], "no process is left"
    assert os.listdir(ray_home) == [], "no folder of Ray and no temporary file is left"
    assert unused_memory(set(os.listdir("/dev/shm")) - shared) == [], "no shared memory is left"

    store = StoreAccess(s3_endpoint).open("s3://night/out")
    rows = read_rows(ManifestTable(store))
    assert sorted(row.sku for row in rows) == sorted(night.skus), "one row for every image that was asked for"
    by_sku = {row.sku: row for row in rows}
    assert [(row.sku, row.error_message) for row in map(by_sku.get, night.good) if row and not row.image_uri] == []
    expected = {sku: (REASONS | MID_RUN).get(kind_of(sku)) for sku in [*night.broken, *night.late]}
    assert {
        sku: (by_sku[sku].error_type, reason)
        for sku, reason in expected.items()
        if reason and (by_sku[sku].status, by_sku[sku].error_type) != ("failed", reason)
    } == {}
    assert all(by_sku[sku].image_uri for sku in night.broken if kind_of(sku).startswith("exif"))
    assert all(row.image_uri or (row.error_type and row.error_message) for row in rows)
    assert [row.sku for row in rows if row.image_uri and not is_stored(store, row)] == []
    assert list(store.list("_pending/")) == [], "every row is in the manifest"
    (report,) = store.list("reports/")
    page = store.get(report.key).decode()
    assert [sku for sku in night.skus if sku not in page] == []
    assert f"Contact sheet: {store.uri_of(report.key)}" in output
    assert "Traceback" not in output and "Warning" not in output, output


def is_stored(store: Store, row: Row) -> bool:
    return hashlib.sha256(store.get(key_of_image(str(row.image_uri)))).hexdigest() == row.image_sha256


def children_of(process: subprocess.Popen[bytes]) -> set[psutil.Process]:
    try:
        return {*psutil.Process(process.pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def unused_memory(names: set[str]) -> list[str]:
    """Those of these files in shared memory that no process has mapped: their owner is gone and left them behind."""
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            mapped += maps.read_text()
        except OSError:  # it ended meanwhile
            continue
    return sorted(name for name in names if f"/dev/shm/{name}" not in mapped and Path("/dev/shm", name).exists())
