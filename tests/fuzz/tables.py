"""Catalog tables, the source index and cached cutouts, damaged."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pinco.catalog.photos.listing import read_catalog
from pinco.catalog.photos.sources import SOURCES, SourceIndex
from pinco.catalog.store.access import DEFAULT_ACCESS, open_store
from pinco.generation.cutouts import CutoutCache, cutout_key
from preprocessing.cutout import Cutout, CutoutRecipe, cutout_to_bytes, make_cutout
from tests.fuzz.mutate import mutated
from tests.fuzz.run import Target


@cache
def _tables() -> tuple[bytes, ...]:
    columns = {
        "sku": [f"{number:04d}" for number in range(40)],
        "image": [f"photos/{number}.png" for number in range(40)],
        "name": ["Mug", "Café", None, "x" * 300] * 10,
        "price": [1.5, float("nan"), None, 2.0] * 10,
        "stock": [1, 2, None, -5] * 10,
    }
    table = pa.table(columns)
    files = []
    for options in (
        {},
        {"compression": "zstd", "write_page_checksum": True},
        {"compression": "gzip", "use_dictionary": False, "data_page_version": "2.0"},
        {"compression": "none", "row_group_size": 7},
    ):
        buffer = io.BytesIO()
        pq.write_table(table, buffer, **options)  # type: ignore[arg-type]
        files.append(buffer.getvalue())
    return tuple(files)


_CSV = "sku;image;name;price\r\n" + "".join(f"{number:04d};photos/{number}.png;Café;1,5\r\n" for number in range(20))


def _catalog(chance: random.Random) -> bytes:
    """A letter for the kind of file, and the file."""
    if chance.random() < 0.3:
        text = _CSV.replace("photos/3.png", chance.choice(("file://[", "gs://x", "\0", "", "a" * 9999, "s3://", "/")))
        return b"c" + mutated(text.encode(chance.choice(("utf-8", "cp1252", "utf-16"))), chance)
    return b"p" + mutated(chance.choice(_tables()), chance, _tables())


@cache
def _folder() -> Path:
    holder = tempfile.TemporaryDirectory()
    _HOLDERS.append(holder)
    return Path(holder.name)


_HOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Folders that are removed when the process ends."""


def _read_catalog(data: bytes) -> None:
    path = _folder() / ("c.csv" if data[:1] == b"c" else "c.parquet")
    path.write_bytes(data[1:])
    read_catalog(str(path))


@cache
def _snapshot() -> bytes:
    photo = _folder() / "photo.png"
    Image.new("RGB", (60, 40)).save(photo)
    info = DEFAULT_ACCESS.head(str(photo))
    assert info is not None
    store = open_store(str(_folder() / "indexed"))
    index = SourceIndex(store)
    index.resolve({str(photo): info})
    index.save()
    return store.get(next(store.list(SOURCES)).key)


def _load_snapshot(data: bytes) -> None:
    """Damage of a snapshot is never an error, and never another hash."""
    store = open_store(str(_folder() / "damaged"))
    path = Path(store.uri_of(f"{SOURCES}000000000007.parquet"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    photo = _folder() / "photo.png"
    info = DEFAULT_ACCESS.head(str(photo))
    assert info is not None
    found, unreadable = SourceIndex(store).resolve({str(photo): info})
    assert not unreadable
    assert found[str(photo)].sha256 == hashlib.sha256(photo.read_bytes()).hexdigest()


@cache
def _cutout() -> tuple[bytes, Cutout]:
    """A photo and its cutout."""
    pixels = np.zeros((24, 30, 4), np.uint8)
    pixels[6:18, 8:22] = (200, 90, 40, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), make_cutout(buffer.getvalue())


def _entry(chance: random.Random) -> bytes:
    """One in three has the right hash over wrong content, as only an attacker would write it."""
    data = cutout_to_bytes(_cutout()[1])
    if chance.random() < 0.67:
        return mutated(data, chance)
    magic, content = data[: data.index(b"\n") + 1], data[data.index(b"\n") + 33 :]
    head, _, body = content.partition(b"\n")
    if chance.random() < 0.5:
        header = json.loads(head)
        nonsense = (None, -1, 10**30, "x", [], {}, [1, 2], ["a"], [0, 0, 0], [-5, 5, 0], True, 1e308, float("nan"))
        header[chance.choice(list(header))] = chance.choice(nonsense)
        content = json.dumps(header).encode() + b"\n" + body
    content = mutated(content, chance) if chance.random() < 0.7 else content
    return magic + hashlib.sha256(content).digest() + content


def _use_entry(data: bytes) -> None:
    """Damage of an entry is never an error, and never another cutout of a photo, unless it was made up for it."""
    photo, right = _cutout()
    store = open_store(str(_folder() / "cutouts"))
    path = Path(store.uri_of(cutout_key(right.source_sha256, CutoutRecipe())))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    found = CutoutCache(store, CutoutRecipe()).get_or_make(photo, right.source_sha256)
    start = data.find(b"\n") + 33
    if hashlib.sha256(data[start:]).digest() != data[start - 32 : start]:
        assert np.array_equal(found.rgb, right.rgb) and np.array_equal(found.alpha, right.alpha)
    assert found.alpha.shape == found.depth.shape == found.rgb.shape[:2]


CATALOG = Target("catalog table", _catalog, _read_catalog)
SNAPSHOT = Target("source index", lambda chance: mutated(_snapshot(), chance), _load_snapshot)
CACHE = Target("cutout cache", _entry, _use_entry)
