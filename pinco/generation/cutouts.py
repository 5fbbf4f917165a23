"""Cutouts kept in the store, so that a photo is cut out once for all prompts, channels and later runs."""

from __future__ import annotations

import contextlib
import logging

from cachetools import LRUCache

from pinco.catalog.store.base import ObjectNotFoundError, Store, StoreError
from preprocessing.cutout import Cutout, CutoutRecipe, cutout_from_bytes, cutout_to_bytes, make_cutout

log = logging.getLogger(__name__)

CUTOUTS = "_cutouts/"


def cutout_key(source_sha256: str, recipe: CutoutRecipe) -> str:
    """`_cutouts/{recipe version}/{sha256 of the photo}`: cutouts of another recipe are stored beside these."""
    return f"{CUTOUTS}{recipe.version()}/{source_sha256}"


class CutoutCache:
    """The store's cutouts, with the most recently used ones in memory: the batches of a product follow each other.

    Args:
        store: Where cutouts are kept; None = in memory only.
        recipe: How photos are cut out.
        keep: How many cutouts stay in memory, at least 1.
    """

    def __init__(self, store: Store | None, recipe: CutoutRecipe, *, keep: int = 4) -> None:
        self._store, self._recipe = store, recipe
        self._recent: LRUCache[str, Cutout] = LRUCache(keep)

    def get_or_make(self, photo: bytes, source_sha256: str) -> Cutout:
        """The cutout of a photo.

        Args:
            photo: The file's bytes; read only where the cutout is not known yet.
            source_sha256: Of the file's bytes.

        Raises:
            PhotoError: The photo cannot be cut out. This is not remembered.
        """
        cutout = self._recent.get(source_sha256) or self._stored(source_sha256)
        if cutout is None:
            cutout = make_cutout(photo, self._recipe)
            if self._store is not None:
                self._store.put_if_absent(cutout_key(source_sha256, self._recipe), cutout_to_bytes(cutout))
        self._recent[source_sha256] = cutout
        return cutout

    def _stored(self, source_sha256: str) -> Cutout | None:
        """The store's cutout; one that is damaged, or of another file format, is removed, so that it is made again."""
        if self._store is None:
            return None
        key = cutout_key(source_sha256, self._recipe)
        try:
            cutout = cutout_from_bytes(self._store.get(key), max_pixels=self._recipe.max_pixels)
            if cutout.source_sha256 != source_sha256:
                raise ValueError("it is of another photo")
        except ObjectNotFoundError:
            return None
        except ValueError as error:
            log.warning("%s is made again: %s", self._store.uri_of(key), error)
            with contextlib.suppress(StoreError):  # then it stays, and is made again each time
                self._store.delete(key)
            return None
        return cutout
