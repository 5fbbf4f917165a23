"""From latents to raw images: the VAE's half of generation, which may run beside the sampling of the next images."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinco.adapter import BackboneDims
from pinco.pipelines.execution import Execution
from pinco.pipelines.families import PipelineFamily
from pinco.pipelines.placement import tiling
from preprocessing.arrays import U8

Size = tuple[int, int]


@dataclass(frozen=True)
class Latents:
    """The images of one call as latents, to be decoded by the pipeline that sampled them.

    Attributes:
        size: Width and height of the images in pixels.
        batches: Numbers of the requests, and their latents as diffusers' pipeline gives them.
        images: What is decoded already, by number: everything, where weights move between memories.
        ready: On a CUDA device, the event behind the last step.
    """

    size: Size
    batches: Sequence[tuple[Sequence[int], Tensor]]
    images: Mapping[int, U8] = field(default_factory=dict)
    ready: Any = None


class Decoder:
    """A pipeline's VAE, which one thread at a time uses: its tiles are a state of it, and encoding needs it too.

    The lock is held for one image. A thread that wants to encode waits for no batch.
    """

    def __init__(self, pipe: Any, family: PipelineFamily, dims: BackboneDims, execution: Execution) -> None:
        """For the VAE of a diffusers pipeline.

        Args:
            pipe: The pipeline.
            family: What is special about it.
            dims: The backbone's sizes.
            execution: Says whether the VAE works in tiles.
        """
        self._pipe, self._family, self._dims, self._execution = pipe, family, dims, execution
        self._lock = threading.RLock()
        self._stream: Any = None

    @property
    def movable(self) -> bool:
        """Whether hooks move the VAE's weights. They move other components too, so that sampling must not run beside
        a decode."""
        hooks = ("_hf_hook", "_diffusers_hook")
        return any(hasattr(module, hook) for module in self._pipe.vae.modules() for hook in hooks)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other thread uses the VAE."""
        with self._lock:
            yield

    @contextmanager
    def vae(self, size: Size) -> Iterator[Any]:
        """The VAE for images of (width, height) and for this thread alone. Not to be nested."""
        with self._lock, tiling(self._pipe.vae, self._execution.tiles(size)):
            yield self._pipe.vae

    def images(self, latents: Tensor, size: Size) -> list[U8]:
        """Raw images `[h, w, 3]`, computed on the thread's current stream.

        Args:
            latents: As diffusers' pipeline gives them.
            size: Width and height of the images.
        """
        return [self._image(one, size) for one in latents.split(1)]

    def ready(self) -> Any:
        """The event behind everything that the current stream was given; None where there are no streams."""
        if self._pipe._execution_device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._pipe._execution_device))
        return event

    def decode(self, latents: Latents) -> list[U8]:
        """The raw images in the order of their requests; on a CUDA device on a stream of their own.

        Args:
            latents: What was sampled.
        """
        images = dict(latents.images)
        with self._beside(latents):
            for numbers, batch in latents.batches:
                images.update(zip(numbers, self.images(batch, latents.size), strict=True))
        return [images[number] for number in sorted(images)]

    def _image(self, latents: Tensor, size: Size) -> U8:
        given = self._family.for_the_vae(self._pipe, latents, size, self._dims)
        with self.vae(size) as vae:
            decoded = vae.decode(given, return_dict=False)[0]
        (image,) = self._family.pictures(self._pipe, decoded)  # waits for the device, and no thread for it
        return np.asarray(np.rint(image * 255.0), np.uint8)

    def _beside(self, latents: Latents) -> AbstractContextManager[Any]:
        """Where the decode runs: behind the sampling of its latents, and not behind that of later ones."""
        if latents.ready is None:
            return nullcontext()
        if self._stream is None:  # always the same one: each has a pool of memory of its own
            self._stream = torch.cuda.Stream(self._pipe._execution_device)
        self._stream.wait_event(latents.ready)
        for _, batch in latents.batches:
            batch.record_stream(self._stream)
        stream: AbstractContextManager[Any] = torch.cuda.stream(self._stream)
        return stream
