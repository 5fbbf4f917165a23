"""The source index: the hash of every photo, so that planning reads a photo only once.

Entries are keyed by (address, ETag, size) and kept in the store. The index is a cache: losing it costs only time, a
snapshot that cannot be read is ignored, and so are files that are none.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from tenacity import retry, retry_if_result, stop_after_attempt, wait_random_exponential

from pinco.catalog.ids.job import Size
from pinco.catalog.store.access import DEFAULT_ACCESS, StoreAccess
from pinco.catalog.store.base import ObjectInfo, ObjectNotFoundError, Store, StoreError
from pinco.errors import first_line
from preprocessing.decode import read_size
from preprocessing.errors import PhotoError

log = logging.getLogger(__name__)

SOURCES = "_sources/"
MAX_PHOTO = 256 * 2**20
"""Bytes of a photo; larger files are not read. (50 million pixels of 8-bit RGB are 150 MB without any compression.)"""

_READERS = 8
_SNAPSHOT = re.compile(re.escape(SOURCES) + r"(\d{12,15})\.parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Source:
    """A photo as it is now.

    Attributes:
        uri: Its address.
        etag: Its version; see `ObjectInfo`.
        size: In bytes.
        sha256: Of the file's bytes; a damaged or empty file has one too.
        width: In pixels, upright, from the header; None where the header cannot be read.
        height: Like `width`.
    """

    uri: str
    etag: str
    size: int
    sha256: str
    width: int | None
    height: int | None

    @property
    def pixels(self) -> Size | None:
        """(width, height); None where the photo cannot be read."""
        return None if self.width is None or self.height is None else (self.width, self.height)


class SourceIndex:
    """The known photos, from the store and from this process.

    Args:
        store: Where snapshots of the index are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Source] = {}
        self._seq = 0
        self._new = 0
        self._load()

    def resolve(
        self, photos: Mapping[str, ObjectInfo], access: StoreAccess = DEFAULT_ACCESS
    ) -> tuple[dict[str, Source], dict[str, str]]:
        """Hash photos; those known in the same version are not read.

        Args:
            photos: What the store knows of each photo, by address.
            access: For S3.

        Returns:
            The sources by address, and for photos that exist but cannot be read (access denied, for example) the
            reason.
        """
        unseen = [uri for uri, info in photos.items() if not self._has(uri, info)]
        unreadable: dict[str, str] = {}
        with ThreadPoolExecutor(_READERS) as pool:
            for uri, found in zip(unseen, pool.map(lambda uri: _look(uri, photos[uri], access), unseen), strict=True):
                if isinstance(found, Source):
                    self._known[uri] = found
                    self._new += 1
                else:
                    unreadable[uri] = found
        return {uri: self._known[uri] for uri in photos if uri not in unreadable}, unreadable

    def save(self) -> None:
        """Write a snapshot if there are new entries. Two processes at once are merged; older snapshots are removed."""
        if self._new:
            self._save_snapshot()

    @retry(
        retry=retry_if_result(lambda written: not written),
        stop=stop_after_attempt(50),
        wait=wait_random_exponential(multiplier=0.01, max=1),
        retry_error_callback=lambda _: False,  # nothing but time is lost
    )
    def _save_snapshot(self) -> bool:
        """Write the next snapshot; where another process has just written that one, take its entries over."""
        if not self._store.put_if_absent(_key(self._seq + 1), _to_bytes(self._known.values())):
            self._load()
            return False
        self._new = 0
        for seq, key in self._snapshots():
            if seq < self._seq:  # the one before stays: another process may be reading it
                self._store.delete(key)
        self._seq += 1
        return True

    def _has(self, uri: str, info: ObjectInfo) -> bool:
        known = self._known.get(uri)
        return known is not None and (known.etag, known.size) == (info.etag, info.size)

    def _snapshots(self) -> list[tuple[int, str]]:
        """Numbers and keys of the snapshots, the oldest first."""
        found = ((_SNAPSHOT.fullmatch(info.key), info.key) for info in self._store.list(SOURCES))
        return sorted((int(match[1]), key) for match, key in found if match)

    def _load(self) -> None:
        """Read the latest snapshot that can be read; entries of this process are newer and are kept."""
        snapshots = self._snapshots()
        self._seq = max((seq for seq, _ in snapshots), default=0)
        for _, key in reversed(snapshots):
            try:
                self._known = _from_bytes(self._store.get(key)) | self._known
                return
            except Exception as error:  # pyarrow raises a dozen kinds; whatever it is, only time is lost
                log.warning("%s cannot be read and is left out: %s", self._store.uri_of(key), first_line(error))


def _look(uri: str, info: ObjectInfo, access: StoreAccess) -> Source | str:
    if info.size > MAX_PHOTO:
        return f"the file has {info.size / 2**20:,.0f} MiB; at most {MAX_PHOTO // 2**20} MiB are read"
    try:
        data = access.read(uri)
    except ObjectNotFoundError:
        return "the photo was deleted while the sheet was being planned"
    except StoreError as error:
        return str(error)
    try:
        width, height = read_size(data)
    except PhotoError:
        return Source(uri, info.etag, info.size, hashlib.sha256(data).hexdigest(), None, None)
    return Source(uri, info.etag, info.size, hashlib.sha256(data).hexdigest(), width, height)


def _key(seq: int) -> str:
    return f"{SOURCES}{seq:012d}.parquet"


def _to_bytes(sources: Iterable[Source]) -> bytes:
    buffer = io.BytesIO()
    table = pa.Table.from_pylist([asdict(source) for source in sources], _SCHEMA)
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def _from_bytes(data: bytes) -> dict[str, Source]:
    """The sound entries of a snapshot, by address; any damage that its checksums find is an error."""
    table = pq.read_table(pa.BufferReader(data), schema=_SCHEMA, page_checksum_verification=True, use_threads=False)
    sources = [Source(**row) for row in table.to_pylist()]
    return {source.uri: source for source in sources if _is_sound(source)}


def _is_sound(source: Source) -> bool:
    sides = [side for side in (source.width, source.height) if side is not None]
    return _SHA256.fullmatch(source.sha256) is not None and len(sides) in (0, 2) and all(side > 0 for side in sides)
