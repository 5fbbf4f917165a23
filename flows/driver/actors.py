"""The two kinds of actors of a run. Plain classes here; `remote` turns them into Ray actors.

Ray neither restarts them nor repeats their calls: the driver does (`flows.driver.dispatch`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flows.settings import RaySettings
from pinco.catalog.manifest.schema import Row
from pinco.generation.cutouts import CutoutCache
from pinco.generation.faults import DeviceMemoryError
from pinco.generation.settings import ModelSettings
from pinco.generation.steps import PlacedProduct, finish_rows, make_rows, prepare, sample
from pinco.generation.take import RunSpec, Take

if TYPE_CHECKING:
    from pinco.generation.model import Model


_OWNED_BY_THE_DRIVER = {"max_restarts": 0, "max_task_retries": 0}


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
    """Canvases and prompts to finished, stored images. Lives for the whole run, with its weights in memory.

    It may be asked from two threads: one batch has the device, and the images of the one before it are decoded,
    measured, pasted, packed and stored meanwhile.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: ModelSettings,
        threads: int,
        prompts: Sequence[str] = (),
        memory_share: float = 1.0,
    ) -> None:
        self._spec, self._settings, self._threads = spec, model, threads
        self._prompts, self._memory_share = prompts, memory_share
        self._model: Model | None = None
        self._store = spec.open_store()
        self._device = threading.Lock()

    def load(self) -> str:
        """Bring the weights into memory. Apart from `__init__`, so that the driver sees the error itself.

        Returns:
            Where the weights lie, in one line.
        """
        from pinco.generation.model import Model

        self._model = Model(self._settings, threads=self._threads, memory_share=self._memory_share)
        self._model.expect(self._prompts)
        return self._model.placement

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
        try:
            with self._device:
                sampled = sample(takes, placed, self._model, self._spec)
            return finish_rows(sampled, takes, placed, self._model, self._spec, self._store, attempts=attempts)
        except DeviceMemoryError:
            if len(takes) > 1 or not self._model.decodes_beside:
                raise
        with self._device, self._model.alone():  # a single image must fit by itself, not beside another one
            return make_rows(takes, placed, self._model, self._spec, self._store, attempts=attempts)


def remote_preprocessor(spec: RunSpec, settings: RaySettings) -> Any:
    """Start a preprocessing actor."""
    import ray

    actor = ray.remote(num_cpus=1, max_concurrency=1, **_OWNED_BY_THE_DRIVER)(Preprocessor)
    return actor.remote(spec, settings.threads)


def remote_generator(
    spec: RunSpec, model: ModelSettings, settings: RaySettings, *, gpus: float, overlap: bool, prompts: Any = ()
) -> Any:
    """Start an inference actor.

    Args:
        spec: What all takes have in common.
        model: Which weights, and how.
        settings: Of the actors.
        gpus: How many of them it gets (Ray tells it which); with 0 it is pinned to a CPU.
        overlap: Whether it begins with the next batch while it finishes the images of the last one.
        prompts: All texts of the run in their order, or a reference to them.
    """
    import ray

    own = {"num_gpus": gpus, "num_cpus": 0 if gpus else 1, "max_concurrency": 2 if overlap else 1}
    actor = ray.remote(**own, **_OWNED_BY_THE_DRIVER)(Generator)
    share = gpus if 0 < gpus < 1 else 1.0  # several actors on one GPU load at once
    return actor.remote(spec, model, settings.threads, prompts, share)
