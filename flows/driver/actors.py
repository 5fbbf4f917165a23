"""The two kinds of actors of a run. Plain classes here; `remote` turns them into Ray actors.

Ray neither restarts them nor repeats their calls: the driver does (`flows.driver.dispatch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flows.settings import RaySettings
from pinco.catalog.manifest.schema import Row
from pinco.generation.cutouts import CutoutCache
from pinco.generation.settings import ModelSettings
from pinco.generation.steps import PlacedProduct, make_rows, prepare
from pinco.generation.take import RunSpec, Take

if TYPE_CHECKING:
    from pinco.generation.model import Model


_OWNED_BY_THE_DRIVER = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 1}


class Preprocessor:
    """Photos to canvases, on a CPU. Never imports torch."""

    def __init__(self, spec: RunSpec, threads: int) -> None:
        import cv2

        cv2.setNumThreads(threads)
        self._spec = spec
        self._cutouts = CutoutCache(spec.open_store(), spec.recipe)

    def prepare(self, takes: Sequence[Take]) -> tuple[str, PlacedProduct]:
        """The canvas that these takes share.

        Returns:
            Ray's two return values: a small one for the driver, and the pixels.

        Raises:
            PhotoError, PhotoChangedError, PhotoMissingError, StoreError: They end the takes' rows as failed.
        """
        return "prepared", prepare(takes[0].job, self._spec, self._cutouts)


class Generator:
    """Canvases and prompts to finished, stored images. Lives for the whole run, with its weights in memory."""

    def __init__(self, spec: RunSpec, model: ModelSettings, threads: int) -> None:
        self._spec, self._settings, self._threads = spec, model, threads
        self._model: Model | None = None
        self._store = spec.open_store()

    def load(self) -> None:
        """Bring the weights into memory. Apart from `__init__`, so that the driver sees the error itself."""
        from pinco.generation.model import Model

        self._model = Model(self._settings, threads=self._threads)

    def generate(self, takes: Sequence[Take], placed: PlacedProduct, attempts: int) -> list[Row]:
        """One row per take, in order; every image that a row names is durably written.

        Args:
            takes: What to make, all on one canvas.
            placed: The canvas.
            attempts: How often making these rows was begun, this time included.

        Raises:
            DeviceMemoryError, AcceleratorFaultError: The driver decides what they mean.
        """
        if self._model is None:
            raise RuntimeError("load() comes first")
        return make_rows(takes, placed, self._model, self._spec, self._store, attempts=attempts)


def remote_preprocessor(spec: RunSpec, settings: RaySettings) -> Any:
    """Start a preprocessing actor."""
    import ray

    actor = ray.remote(num_cpus=1, **_OWNED_BY_THE_DRIVER)(Preprocessor)
    return actor.remote(spec, settings.threads)


def remote_generator(spec: RunSpec, model: ModelSettings, settings: RaySettings, *, gpus: float) -> Any:
    """Start an inference actor on `gpus` GPUs (Ray tells it which), or pinned to a CPU with 0."""
    import ray

    actor = ray.remote(num_gpus=gpus, num_cpus=0 if gpus else 1, **_OWNED_BY_THE_DRIVER)(Generator)
    return actor.remote(spec, model, settings.threads)
