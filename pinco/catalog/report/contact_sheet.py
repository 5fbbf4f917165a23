"""The contact sheet: one page that shows a run, every product's photo beside its generated images.

The page is one HTML file without other files: pictures are embedded small, styles are inside, there is no script.
"""

from __future__ import annotations

import posixpath
import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pinco.catalog.delivery.images import key_of_image
from pinco.catalog.manifest.schema import STATUSES, Row
from pinco.catalog.photos.sources import MAX_PHOTO
from pinco.catalog.report.thumbnails import thumbnail_uri
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess
from pinco.catalog.store.base import Store, StoreError

MAX_CARDS = 600
"""How many images are shown at most, so that the page opens on any machine (about 20 kB each)."""

SOURCE_SIDE, IMAGE_SIDE = 360, 440
_READERS = 8

_MEANING = {
    "ok": "ready to use",
    "review": "made, to be reviewed",
    "rejected": "made, below the quality limits",
    "failed": "could not be made",
    "quarantined": "not tried again after crashes",
}


@dataclass(frozen=True)
class Card:
    """One image on the page.

    Attributes:
        row: Its manifest row.
        thumbnail: Data URI; None where there is no picture.
        link: The file, seen from the page.
    """

    row: Row
    thumbnail: str | None
    link: str | None

    @property
    def explanation(self) -> str | None:
        """Why the image is not simply ready."""
        return self.row.error_message or self.row.reason

    @property
    def facts(self) -> list[str]:
        """Channel, size, placement, method, seed and what was measured, in a few words each."""
        row = self.row
        size = f"{row.width} x {row.height}" if row.width and row.height else None
        facts = [row.channel, size, row.placement, row.method, f"seed {row.seed}"]
        facts.append("product untouched" if row.core_identical else None)
        facts.append(f"extension {row.extension:.1%}" if row.extension is not None else None)
        facts.append(f"{row.seconds:.1f} s" if row.seconds is not None else None)
        facts.append(f"{row.attempts} attempts" if row.attempts > 1 else None)
        return [fact for fact in facts if fact]


@dataclass(frozen=True)
class Product:
    """One product photo and its images.

    Attributes:
        sku: The product.
        name: The photo's file name.
        thumbnail: The photo as a data URI; None where it cannot be shown.
        cards: The images.
    """

    sku: str
    name: str
    thumbnail: str | None
    cards: tuple[Card, ...]


def contact_sheet(
    rows: Sequence[Row],
    out: str | Path,
    store: Store,
    *,
    key: str,
    title: str = "Contact sheet",
    access: StoreAccess = DEFAULT_ACCESS,
) -> Path:
    """Write the page of a run. A picture that cannot be read is shown as missing.

    Args:
        rows: Manifest rows, in the order in which they are shown.
        out: Path of the HTML file.
        store: Where the images are.
        key: The page's own place in the store: links to images lead from there, so that a copied store's page works.
        title: Of the page.
        access: For photos on S3.

    Returns:
        The path of the HTML file.
    """
    shown = rows[:MAX_CARDS]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    counts = Counter(row.status for row in rows)
    seconds = [row.seconds for row in rows if row.seconds is not None]
    page = environment.get_template("contact_sheet.html.j2").render(
        title=title,
        store=store.uri,
        runs=sorted({row.run_id for row in rows}),
        made_at=max((row.created_at for row in rows), default=None),
        total=len(rows),
        omitted=len(rows) - len(shown),
        counts=[(status, counts[status], _MEANING[status]) for status in STATUSES if counts[status]],
        median_seconds=statistics.median(seconds) if seconds else None,
        products=_products(shown, store, access, posixpath.dirname(key)),
    )
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _products(rows: Sequence[Row], store: Store, access: StoreAccess, folder: str) -> list[Product]:
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.sku, row.source_uri), []).append(row)
    with ThreadPoolExecutor(_READERS) as pool:
        sources = pool.map(lambda key: _source(key[1], access), grouped)
        cards = dict(zip([id(row) for row in rows], pool.map(lambda row: _card(row, store, folder), rows), strict=True))
        return [
            Product(sku, unquote(uri.rpartition("/")[2]), thumbnail, tuple(cards[id(row)] for row in grouped[sku, uri]))
            for (sku, uri), thumbnail in zip(grouped, sources, strict=True)
        ]


def _source(uri: str, access: StoreAccess) -> str | None:
    try:
        return thumbnail_uri(access.read(uri, max_bytes=MAX_PHOTO), SOURCE_SIDE)
    except StoreError:
        return None


def _card(row: Row, store: Store, folder: str) -> Card:
    if row.image_uri is None:
        return Card(row, None, None)
    key = key_of_image(row.image_uri)
    link = quote(posixpath.relpath(key, folder or "."))
    try:
        return Card(row, thumbnail_uri(store.get(key), IMAGE_SIDE), link)
    except StoreError:
        return Card(row, None, link)
