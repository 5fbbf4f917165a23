"""Cutouts kept in the store, so that a photo is cut out once for all prompts, channels and nights to come."""

from pinco.catalog.store.base import ObjectNotFoundError, Store
from preprocessing.cutout import Cutout, CutoutRecipe, cutout_from_bytes, cutout_to_bytes, make_cutout

CUTOUTS = "_cutouts/"


def cutout_key(source_sha256: str, recipe: CutoutRecipe) -> str:
    """``_cutouts/{recipe version}/{sha256 of the photo}``: a new recipe makes all cutouts anew, beside the old ones."""
    return f"{CUTOUTS}{recipe.version()}/{source_sha256}"


class CutoutCache:
    """The store's cutouts behind one call, with the last few in memory: the batches of a product follow each other.

    Without a store (None) it keeps only these.
    """

    def __init__(self, store: Store | None, recipe: CutoutRecipe, *, keep: int = 4) -> None:
        self._store, self._recipe, self._keep = store, recipe, keep
        self._recent: dict[str, Cutout] = {}

    def get_or_make(self, photo: bytes, source_sha256: str) -> Cutout:
        """The cutout of ``photo``. Raises PhotoError where none can be made; failures are not cached."""
        if (cutout := self._recent.pop(source_sha256, None)) is None:
            cutout = self._stored(source_sha256)
        if cutout is None:
            cutout = make_cutout(photo, self._recipe)
            if self._store is not None:
                self._store.put_if_absent(cutout_key(source_sha256, self._recipe), cutout_to_bytes(cutout))
        self._recent[source_sha256] = cutout
        while len(self._recent) > self._keep:
            del self._recent[next(iter(self._recent))]
        return cutout

    def _stored(self, source_sha256: str) -> Cutout | None:
        if self._store is None:
            return None
        try:
            return cutout_from_bytes(self._store.get(cutout_key(source_sha256, self._recipe)))
        except (ObjectNotFoundError, ValueError):  # not there, or written by a version that packed it differently
            return None
