"""The model of an inference actor: pipeline, segmenter, and what identifies them. Imports torch."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch
from cachetools import LRUCache

from pinco.catalog.ids.identity import ModelIdentity
from pinco.catalog.quality.measures import extension, shrinkage
from pinco.errors import first_line
from pinco.evaluation.segmenter import Segmenter
from pinco.generation.channel_methods import ChannelMethods
from pinco.generation.faults import AcceleratorFaultError, DeviceMemoryError, is_accelerator_fault, is_out_of_memory
from pinco.generation.fingerprint import folder_sha256
from pinco.generation.settings import ModelSettings
from pinco.generation.weights import find_weights, fingerprint_cache
from pinco.knobs import knobs_of
from pinco.pipelines.decoding import Latents
from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.encoded import EncodedCanvas
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.memory import KEPT_CANVAS_BYTES, KEPT_CANVASES
from pinco.pipelines.methods import method_named
from preprocessing.arrays import U8
from preprocessing.canvas import Canvas

log = logging.getLogger(__name__)

BYTES_DEPEND_ON = ("torch", "diffusers", "transformers", "numpy", "opencv-python-headless", "pillow")


@dataclass(frozen=True)
class Scores:
    """Measures of a raw image, as shares of the product's area; None where `not_scored` names them."""

    extension: float | None = None
    shrinkage: float | None = None
    not_scored: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncodedProduct:
    """A canvas as the pipeline sees it, its mask, and what the segmenter finds on the canvas itself (its own error)."""

    canvas: EncodedCanvas
    alpha: U8
    segmented: U8 | None


@dataclass(frozen=True)
class ModelDescription:
    """The manifest columns that say what made an image (`pinco.catalog.manifest.schema.Row`)."""

    backbone: str
    device: str
    threads: int
    environment: str


class Model:
    """Weights in memory, ready to be asked."""

    def __init__(self, settings: ModelSettings, *, threads: int, memory_share: float = 1.0) -> None:
        """Load from disk.

        Args:
            settings: Which weights, and how.
            threads: CPU threads.
            memory_share: What this process may take of an accelerator's memory.

        Raises:
            MissingWeightsError: A folder of weights is not there.
            UnknownPipelineError: The backbone's folder holds something that Pinco cannot run.
            ControlNetError: The ControlNet cannot be used with the backbone.
            BackboneMismatchError: The adapter was made for another backbone.
            PickledWeightsError: Weights are stored as a pickle.
            RemoteCodeError: The backbone comes with program code of its own.
            ExecutionError: The backbone or the device cannot compute as the settings say.
            OSError: Weights cannot be read.
            ValueError: Settings beside the weights are wrong.
            DeviceMemoryError: The weights do not fit into the device's memory.
            AcceleratorFaultError: The device itself does not answer.
        """
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        self._threads = threads
        self._weights = find_weights(settings)
        self._methods = ChannelMethods(settings)
        self._device = (
            ("cuda" if torch.cuda.is_available() else "cpu") if settings.device == "auto" else settings.device
        )
        self._dtype = (
            ("bfloat16" if self._device == "cuda" else "float32") if settings.dtype == "auto" else settings.dtype
        )
        folder = BackboneFolder(self._weights.backbone)
        with _weights_fit(), _faults_named():
            self.pipeline = load_pipeline(
                self._weights.backbone,
                self._weights.adapter,
                controlnet=self._weights.controlnet,
                device=self._device,
                dtype=self._dtype,
                execution=folder.choose(settings.choice, accelerator=self._device != "cpu"),
                pixels=settings.working_pixels,
                memory_share=memory_share,
            )
        log.info("%s", self.placement)
        self._segmenter = self._load_segmenter()
        self._knobs = expanded_knobs(settings, self.pipeline.defaults)
        self._identities: dict[str, ModelIdentity] = {}
        self._encoded: LRUCache[str, EncodedProduct] = LRUCache(KEPT_CANVAS_BYTES, getsizeof=_share)
        self.expect(())

    @property
    def placement(self) -> str:
        """Where the weights lie, in one line."""
        placement = self.pipeline.placement
        return placement.line if placement else ""

    def encode(self, canvas: Canvas, key: str, method: str | None = None) -> EncodedProduct:
        """`canvas` encoded; the same key again costs nothing while it is among the last few.

        Args:
            canvas: The product, where it stands.
            key: Names canvas and method.
            method: What makes its images; None = the settings' method.

        Raises:
            MethodError: The method is not possible with the loaded weights.
        """
        found: EncodedProduct | None = self._encoded.get(key)
        if found is None:
            with _faults_named():
                encoded = self.pipeline.encode_canvas(canvas, method or self._methods.default)
            segmented = self._segmenter.segment(canvas.image) if self._segmenter else None
            found = self._encoded[key] = EncodedProduct(encoded, canvas.alpha, segmented)
        return found

    def expect(self, prompts: Sequence[str]) -> None:
        """Name the prompts of the run, in their order; they are encoded together where the encoders leave the device.

        Args:
            prompts: Negative ones among them.
        """
        self._ahead = list(dict.fromkeys(prompts))
        self._places = {prompt: place for place, prompt in enumerate(self._ahead)}

    def sample(self, encoded: EncodedProduct, asked: Sequence[tuple[str, str | None, int]]) -> Latents:
        """The latents of (prompt, negative, seed) on one canvas.

        Raises:
            DeviceMemoryError: The images do not fit into the device's memory.
            AcceleratorFaultError: The device itself fails.
        """
        requests = [
            self.pipeline.defaults.request(prompt, negative=negative, seed=seed, **self._knobs)
            for prompt, negative, seed in asked
        ]
        with _faults_named():
            return self.pipeline.sample(encoded.canvas, requests, ahead=self._following(asked))

    def decode(self, latents: Latents) -> list[U8]:
        """The raw images of what was sampled; in another thread, also while the next ones are sampled.

        Raises:
            DeviceMemoryError: The images do not fit into the device's memory, beside what is sampled.
            AcceleratorFaultError: The device itself fails.
        """
        with _faults_named():
            return self.pipeline.decode(latents)

    @property
    def decodes_beside(self) -> bool:
        """Whether images can be decoded while others are sampled: on an accelerator whose weights stay in place."""
        return self._device != "cpu" and not self.pipeline.decoder.movable

    def alone(self) -> AbstractContextManager[None]:
        """Inside, no other thread decodes."""
        return self.pipeline.decoder.alone()

    def score(self, raw: U8, encoded: EncodedProduct) -> Scores:
        """Growth and loss of the product in a raw image, the segmenter's own error taken off."""
        if self._segmenter is None or encoded.segmented is None:
            return Scores(not_scored=("extension", "shrinkage"))
        found = self._segmenter.segment(raw)
        return Scores(
            extension(encoded.alpha, found, encoded.segmented), shrinkage(encoded.alpha, found, encoded.segmented)
        )

    def _following(self, asked: Sequence[tuple[str, str | None, int]]) -> Sequence[str]:
        """The run's prompts from the first one that is asked for now."""
        return self._ahead[min((self._places.get(prompt, 0) for prompt, _, _ in asked), default=0) :]

    def tiles(self, size: tuple[int, int]) -> bool:
        """Whether the VAE works in tiles on images of (width, height)."""
        return self.pipeline.execution.tiles(size)

    def identity(self, method: str | None = None) -> ModelIdentity:
        """What the model and its settings contribute to a generation id.

        Args:
            method: What makes the image; None = the settings' method.

        Raises:
            MethodError: The settings' method is not possible with their weights.
        """
        name = method or self._methods.default
        if name not in self._identities:
            self._identities[name] = self._identify(name)
        return self._identities[name]

    def description(self) -> ModelDescription:
        """What the manifest says of the model."""
        return ModelDescription(
            self._weights.name,
            self._device,
            self._threads,
            environment(),
        )

    def _identify(self, method: str) -> ModelIdentity:
        """Of the weights those that the method uses, and of the knobs what becomes of them."""
        defaults, weights, execution = self.pipeline.defaults, self._weights, self.pipeline.execution
        adapter = self.pipeline.adapter if method == "pinco" else None
        knobs = defaults.changed(**self._knobs).changed(blending=method_named(method).blending)
        return ModelIdentity(
            **knobs_of(knobs),
            max_sequence_length=defaults.max_sequence_length,
            scheduler=type(self.pipeline.pipe.scheduler).__name__,
            dtype=self._dtype,
            prune=bool(adapter and adapter.settings.prune),
            adapter_scale=adapter.scale if adapter else 0.0,
            backbone_sha256=folder_sha256(weights.backbone, fingerprint_cache()),
            adapter_sha256=_sha256(weights.adapter if method == "pinco" else None),
            method=method,
            controlnet_sha256=_sha256(weights.controlnet if method == "controlnet" else None),
            quantise=execution.quantise,
            compile=execution.compile,
            cache=execution.cache,
        )

    def _load_segmenter(self) -> Segmenter | None:
        folder = self._weights.segmenter or self.pipeline.defaults.segmenter
        if folder is None:
            return None
        path = Path(self._weights.backbone) / folder  # an absolute folder stays itself
        segmenter: Segmenter = Segmenter.from_pretrained(str(path)).eval()
        return segmenter


def _sha256(folder: str | None) -> str | None:
    return None if folder is None else folder_sha256(folder, fingerprint_cache())


def expanded_knobs(settings: ModelSettings, defaults: GenerationDefaults) -> dict[str, Any]:
    """The knobs of the settings, with the steps of a preset where none are said."""
    knobs = settings.knobs()
    if knobs["steps"] is None:
        knobs["steps"] = settings.choice.steps(defaults.steps)
    return knobs


def _share(product: EncodedProduct) -> int:
    """Bytes that a canvas takes of what is kept: never more than `KEPT_CANVASES` are, and the last one always is."""
    return min(max(product.canvas.nbytes, KEPT_CANVAS_BYTES // KEPT_CANVASES), KEPT_CANVAS_BYTES)


def environment() -> str:
    """JSON of the processor type and the versions that the bytes of an image depend on."""
    versions = {name: version(name).partition("+")[0] for name in BYTES_DEPEND_ON}
    return json.dumps({"processor": platform.machine(), **versions}, sort_keys=True)


@contextmanager
def _weights_fit() -> Iterator[None]:
    """The way out, where weights do not fit."""
    try:
        yield
    except DeviceMemoryError as error:
        raise DeviceMemoryError(
            f"the weights do not fit into the device's memory ({first_line(error)}): set model.placement to auto or "
            "offload_model, or model.quantise to int8"
        ) from error


@contextmanager
def _faults_named() -> Iterator[None]:
    """What the device throws, under the two names that the driver knows; everything else passes."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            raise DeviceMemoryError(str(error)) from None
        if is_accelerator_fault(error):
            raise AcceleratorFaultError(str(error)) from None
        raise
