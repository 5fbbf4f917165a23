"""Foreground-conditioned generation over diffusers' pipelines, the same for all families and methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pinco.adapter import AdapterNotAttachedError, AlreadyAttachedError, PincoAdapter
from pinco.errors import PincoError
from pinco.knobs import knobs_of
from pinco.method_names import BARE
from pinco.pipelines.decoding import Decoder, Latents
from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.encoded import EncodedCanvas, check_size
from pinco.pipelines.execution import PLAIN, Execution
from pinco.pipelines.families import pipeline_family
from pinco.pipelines.families.base import Embeddings
from pinco.pipelines.memory import WeightPlacement
from pinco.pipelines.methods import method_named
from pinco.pipelines.methods.base import Asked
from pinco.pipelines.methods.choice import Given, MethodError, obstacle
from pinco.pipelines.methods.inpainting import sibling
from pinco.pipelines.placement import TextStage, prepare_transformer
from pinco.pipelines.prompts import PROMPT_BYTES, PromptCache, moved
from pinco.pipelines.request import GenerationRequest
from preprocessing.arrays import U8
from preprocessing.canvas import Canvas


class NoTextEncoderError(PincoError, ValueError):
    """A prompt must be encoded by a pipeline that was loaded without what encodes it."""

    code = "no_text_encoder"


class PincoPipeline:
    """Canvases and requests in, raw images out. Pasting the product back is left to the caller, after measuring.

    Attributes:
        pipe: The diffusers pipeline.
        adapter: Attached to its transformer, or None.
        controlnet: A ControlNet for the backbone, or None.
        family: What is special about the pipeline.
        dims: The backbone's sizes.
        defaults: The knobs that a request takes where nothing else is said.
        execution: How it computes.
        placement: Where its weights lie, if that was decided when it was loaded.
        decoder: The VAE, for one thread at a time.
        prompts: The embeddings of the last prompts. A pipeline without text encoders takes them from here:
            `pipeline.prompts[prompt] = embeddings`, by the names of `PipelineFamily.encode_prompt`.
    """

    def __init__(
        self,
        pipe: Any,
        adapter: PincoAdapter | None = None,
        defaults: GenerationDefaults | None = None,
        *,
        controlnet: Any = None,
        one_at_a_time: bool | None = None,
        prompt_bytes: int = PROMPT_BYTES,
        execution: Execution = PLAIN,
        placement: WeightPlacement | None = None,
        text_stage: TextStage | None = None,
    ) -> None:
        """Put the pipeline over a loaded backbone; an adapter that is not attached yet gets attached.

        Args:
            pipe: A diffusers pipeline of a known family.
            adapter: For the method pinco; the other methods do not see it.
            defaults: None takes those of the family.
            controlnet: For the method controlnet.
            one_at_a_time: Give every image the transformer to itself, so that its bytes do not depend on what else is
                in the call; None does so on the CPU and batches elsewhere.
            prompt_bytes: Embeddings of so many bytes are kept.
            execution: How it computes. What can be done with a loaded backbone is done here: compiling, caching, tiles.
            placement: Where its weights lie, where that was decided; only kept here.
            text_stage: What prompts are encoded in, where the text encoders wait elsewhere (`placement.put`).

        Raises:
            UnknownPipelineError: A pipeline of no known family.
            AlreadyAttachedError: The adapter is attached to another backbone. Also what `PincoAdapter.attach` raises.
        """
        self.pipe = pipe
        self.adapter = adapter
        self.controlnet = controlnet
        self.family = pipeline_family(type(pipe).__name__, "this pipeline").variant(pipe.config)
        self.dims = self.family.dims(pipe)
        self.defaults = defaults or self.family.usual(pipe.transformer.config)
        self.execution = execution
        self.placement = placement
        self._one_at_a_time = one_at_a_time
        self._text_stage = text_stage
        if adapter is not None:
            if not adapter.attached:
                adapter.attach(pipe.transformer)
            elif not adapter.attached_to(pipe.transformer):
                raise AlreadyAttachedError(
                    "the adapter is attached to another backbone than the pipeline's; detach it first"
                )
        self._inpainting: dict[str, Any] = {}
        for part in (*pipe.components.values(), controlnet):
            if isinstance(part, nn.Module):
                part.eval()  # a text encoder made by hand is born with its dropout on
        pipe.set_progress_bar_config(disable=True)
        self.prompts = PromptCache(self._encode_prompt, prompt_bytes)
        self.decoder = Decoder(pipe, self.family, self.dims, execution)
        prepare_transformer(pipe, self.family, execution)

    @property
    def device(self) -> torch.device:
        """Where the transformer computes."""
        device: torch.device = self.pipe._execution_device
        return device

    @torch.no_grad()
    def encode_canvas(self, canvas: Canvas, method: str | None = None) -> EncodedCanvas:
        """Everything that the images of a canvas share.

        Args:
            canvas: The product, where it stands.
            method: Name of the method that will make the images (`pinco.method_names`); None = pinco where there is an
                adapter, else the bare backbone.

        Raises:
            MethodError: The method is not possible with this backbone, or lacks its weights.
            AdapterNotAttachedError: The pipeline's adapter was taken off its backbone.
            ValueError: A canvas whose sides are no multiples of a token's pixels, or without a product.
        """
        name = method or (BARE if self.adapter is None else "pinco")
        weights = self.adapter is not None, self.controlnet is not None
        given = Given(self.family, type(self.pipe).__name__, *weights, self.execution.cache)
        reason = obstacle(name, given)
        if reason is not None:
            raise MethodError(reason)
        size = check_size(canvas, self.dims.token_stride)
        with self.decoder.vae(size):
            return method_named(name).encode(self, canvas, size)

    @torch.no_grad()
    def encode_prompts(self, prompts: Iterable[str]) -> int:
        """Encode prompts ahead, as many as are kept; returns how many were new.

        Raises:
            NoTextEncoderError: The pipeline was loaded without its text encoders.
        """
        with self._text_stage or nullcontext():
            return self.prompts.fill(prompts)

    def generate(
        self, encoded: EncodedCanvas, requests: Sequence[GenerationRequest], *, ahead: Sequence[str] = ()
    ) -> list[U8]:
        """The raw image `[h, w, 3]` of every request, in their order: `sample` and `decode`, which say the rest."""
        return self.decode(self.sample(encoded, requests, ahead=ahead))

    @torch.no_grad()
    def decode(self, latents: Latents) -> list[U8]:
        """The raw image `[h, w, 3]` of every request that was sampled, in their order.

        May run in one thread while another one is in `sample` or `encode_canvas`.

        Args:
            latents: From `sample`.
        """
        return self.decoder.decode(latents)

    @torch.no_grad()
    def sample(
        self, encoded: EncodedCanvas, requests: Sequence[GenerationRequest], *, ahead: Sequence[str] = ()
    ) -> Latents:
        """The latents of every request, by the method that the canvas was encoded for.

        Where weights move between memories while a pipeline works, the images are decoded as well.

        Unless each image has the transformer to itself, requests with equal settings go through in one batch.

        Args:
            encoded: What all images share.
            requests: What is asked for.
            ahead: Prompts that are asked for later. Where the text encoders must come for a prompt, they encode these
                as well, as many as are kept.

        Raises:
            AdapterNotAttachedError: The pipeline's adapter was taken off its backbone, or the canvas was encoded
                without it: the images would be the bare backbone's.
            NoTextEncoderError: A prompt must be encoded, and the pipeline was loaded without its text encoders.
        """
        if self.adapter is not None and encoded.method == BARE:
            raise AdapterNotAttachedError(
                "this canvas was encoded by a pipeline without an adapter: encode it with the pipeline that generates"
            )
        blending = method_named(encoded.method).blending
        if blending is not None:
            requests = [replace(request, blending=blending) for request in requests]
        if self._text_stage is not None:
            needed = [text for request in requests for text in self._texts(request)]
            if any(text not in self.prompts for text in needed):
                self.encode_prompts([*needed, *ahead])
        batches: list[tuple[list[int], Tensor]] = []
        images: dict[int, U8] = {}
        for group in self._groups(requests):
            latents = self._sample_alike(encoded, [requests[number] for number in group])
            if self.decoder.movable:
                images.update(zip(group, self.decoder.images(latents, encoded.size), strict=True))
                self.pipe.maybe_free_model_hooks()
            else:
                batches.append((group, latents))
        return Latents(encoded.size, batches, images, self.decoder.ready())

    def inpainting(self, method: str) -> Any:
        """The family's inpainting pipeline for a method, over the parts that are loaded."""
        if method not in self._inpainting:
            parts = {} if self.controlnet is None else {"controlnet": self.controlnet}
            self._inpainting[method] = sibling(self.pipe, self.family.inpainting[method], **parts)
        return self._inpainting[method]

    def _encode_prompt(self, prompt: str) -> Embeddings:
        try:
            return self.family.encode_prompt(self.pipe, prompt, self.defaults.max_sequence_length)
        except (AttributeError, TypeError) as error:
            parts = (name for name, part in self.pipe.components.items() if part is None)
            missing = [name for name in parts if name.startswith(("text_encoder", "tokenizer"))]
            if not missing:
                raise
            raise NoTextEncoderError(
                f"the prompt {prompt!r} cannot be encoded: the pipeline was loaded without {', '.join(missing)}. Load "
                "it with them, or put the prompt's embeddings in place first: pipeline.prompts[prompt] = embeddings"
            ) from error

    def _groups(self, requests: Sequence[GenerationRequest]) -> list[list[int]]:
        alone = self.device.type == "cpu" if self._one_at_a_time is None else self._one_at_a_time
        if alone:
            return [[number] for number in range(len(requests))]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(tuple(knobs_of(request).values()), []).append(number)
        return list(groups.values())

    def _sample_alike(self, encoded: EncodedCanvas, requests: Sequence[GenerationRequest]) -> Tensor:
        prompts, negatives = self._encoded([request.prompt for request in requests]), {}
        if requests[0].true_cfg > 1:
            negatives = dict(self.family.negative(self._encoded([request.negative or "" for request in requests])))
        return method_named(encoded.method).make(self, encoded, Asked(requests, prompts, negatives))

    def _encoded(self, prompts: Sequence[str]) -> Embeddings:
        known = [moved(self._embedding(prompt), self.device) for prompt in prompts]
        return self.family.join(known)

    def _embedding(self, prompt: str) -> Embeddings:
        """From the cache. What was encoded ahead is gone where a batch's prompts are more than is kept."""
        if prompt in self.prompts:
            return self.prompts[prompt]
        with self._text_stage or nullcontext():
            return self.prompts[prompt]

    @staticmethod
    def _texts(request: GenerationRequest) -> list[str]:
        """What is to be encoded for a request."""
        return [request.prompt, request.negative or ""] if request.true_cfg > 1 else [request.prompt]
