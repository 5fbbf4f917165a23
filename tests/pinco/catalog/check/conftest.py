"""A store with images, as runs leave it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from pinco.catalog.delivery.images import image_key
from pinco.catalog.manifest.adoption import commit_rows
from pinco.catalog.manifest.pending import keep_image
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.base import Store

MakeRow = Callable[..., Row]


@pytest.fixture
def made(make_row: MakeRow) -> Callable[..., Row]:
    """A row whose image is in the store, with the row waiting beside it."""

    def make(store: Store, number: int, **given: object) -> Row:
        file = b"image %d" % number
        sha256 = hashlib.sha256(file).hexdigest()
        generation = str(make_row(number).generation_id)
        key = image_key(generation, sha256, "png")
        row = make_row(number, image_uri=key, image_sha256=sha256, image_bytes=len(file), **given)
        keep_image(store, row, file, "png")
        return row

    return make


@pytest.fixture
def rows(store: Store, made: Callable[..., Row], make_row: MakeRow) -> list[Row]:
    """Two appends of two images and a failure each."""
    rows = [
        made(store, 0),
        made(store, 1),
        make_row(2, "failed"),
        made(store, 3),
        made(store, 4),
        make_row(5, "failed"),
    ]
    table = ManifestTable(store)
    for batch in (0, 1):
        commit_rows(table, rows[3 * batch : 3 * batch + 3], run_id=f"run-{batch}", batch=1, base=table.version)
    return rows
