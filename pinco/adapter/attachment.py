"""An adapter in place on a backbone: its processors, and the way by which a subject reaches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from cachetools import LRUCache

from pinco.adapter.families import Family
from pinco.adapter.layer import SubjectLayer
from pinco.adapter.positions import Positions
from pinco.adapter.processor import AttachedAdapter
from pinco.adapter.subject import Subject
from pinco.errors import PincoError

KEPT_POSITIONS = 8


class AdapterNotAttachedError(PincoError, RuntimeError):
    """An adapter is not, or not any more, in place on the backbone that is to see its subject."""

    code = "adapter_not_attached"


class AlreadyAttachedError(PincoError, RuntimeError):
    """An adapter that sits on a backbone already, or a backbone that has an adapter already."""

    code = "already_attached"


class ParallelBackboneError(PincoError, RuntimeError):
    """A backbone that is split over several devices, whose parts of heads and tokens the adapter does not know."""

    code = "parallel_backbone"

    def __init__(self) -> None:
        super().__init__(
            "this backbone is split over several devices (enable_parallelism), where each sees a part of the tokens or "
            "of the heads; a Pinco adapter needs all of them. Give every device a backbone of its own and its share "
            "of the images, or detach the adapter; where one device is too small, offload or quantise the backbone"
        )


class Attachment:
    """Puts processors onto a transformer, brings subjects to them, watches over both, and takes them off again.

    Where the family's pipelines pass an argument down to the attentions, the subject travels in it. Where they do not,
    hooks bring it: one on the transformer takes the subject that `using` offers at the start of each forward, and one
    on each attention hands it over. The subject of a forward that may be trained on is kept until the next one, because
    gradient checkpointing runs the attentions again in the backward pass. Where it travels in an argument, hooks keep
    it from the attentions that the adapter does not enter: diffusers warns of an argument that a processor does not
    take in each of their calls.

    At the start of a forward every processor is given its layer's keys and values of a cached subject, and lets go of
    them at the end. They never travel in an argument: a block cache hands the same arguments to every block, and may
    hand them over again at a later step.

    No `nn.Module`: held by the adapter, it must not make the backbone a part of the adapter's weights.
    """

    def __init__(
        self,
        family: Family,
        transformer: Any,
        layers: Mapping[int, SubjectLayer],
        adapter: AttachedAdapter,
        patch_size: int,
    ) -> None:
        """Enter the attention layers `layers` of `transformer`.

        Raises:
            AlreadyAttachedError: Another adapter is in place. As after the next ones, nothing has been changed then.
            ParallelBackboneError: The backbone is split over several devices.
            ValueError: A foreign processor is in place.
        """
        _refuse_parallel(transformer)
        self.family = family
        self.transformer = transformer
        self._patch_size = patch_size
        attentions = family.attentions(transformer)
        occupied = [number for number, attention in enumerate(attentions) if family.entered(attention.processor)]
        if occupied:
            raise AlreadyAttachedError(
                f"another Pinco adapter is attached to this backbone (layers {occupied}), which can hold one at "
                "a time: detach that one first"
            )
        self._attentions: dict[int, Any] = {number: attentions[number] for number in layers}
        self._originals = {number: attention.processor for number, attention in self._attentions.items()}
        self._processors = {
            number: family.processor(number, layer, adapter, self._originals[number])
            for number, layer in layers.items()
        }
        for number, processor in self._processors.items():
            self._attentions[number].set_processor(processor)
        self._positions: LRUCache[tuple[int, int, str], Positions | None] = LRUCache(KEPT_POSITIONS)
        self._offered: Subject | None = None
        self._current: Subject | None = None
        self._inside = False
        self._to_rerun: list[Subject | None] = []
        self._rerun: Subject | None = None
        self._hooks = [
            transformer.register_forward_pre_hook(_Hook(self._before_forward), with_kwargs=True),
            transformer.register_forward_hook(_Hook(self._after_forward), always_call=True),
        ]
        if family.attention_argument is None:
            for attention in self._attentions.values():
                self._hooks.append(attention.register_forward_pre_hook(_Hook(self._hand_over), with_kwargs=True))
        else:
            entered = {id(attention) for attention in self._attentions.values()}
            for module in transformer.modules():
                if hasattr(module, "set_processor") and id(module) not in entered:
                    self._hooks.append(module.register_forward_pre_hook(_without_subject, with_kwargs=True))

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of an adapter (an average of its weights, say) is attached to nothing."""

    def undo(self) -> None:
        """Put the original processor objects back."""
        for number, original in self._originals.items():
            self._attentions[number].set_processor(original)
        for hook in self._hooks:
            hook.remove()

    def positions(self, grid: tuple[int, int], device: Any) -> Positions | None:
        """The positions of an image of `grid` tokens, made once while they are among the last few."""
        key = (*grid, str(device))
        if key not in self._positions:
            self._positions[key] = self.family.positions(self.transformer, grid, device)
        return self._positions[key]

    @contextmanager
    def using(self, subject: Subject) -> Iterator[dict[str, Any]]:
        """Offer a subject to the transformer's calls inside the block.

        Yields:
            Arguments for the pipeline or the transformer; empty where hooks bring the subject.
        """
        argument = self.family.attention_argument
        if argument is not None:
            yield {argument: {"subject": subject}}
            return
        before, self._offered = self._offered, subject
        try:
            yield {}
        finally:
            self._offered = before

    def _before_forward(self, transformer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before each forward: the subject must fit the latents, and the processors must still be in place.

        Otherwise diffusers would drop the subject with a line in the log, and the image would lose its product.
        """
        argument = self.family.attention_argument
        subject = self._offered if argument is None else (kwargs.get(argument) or {}).get("subject")
        if argument is None:
            self._begin(subject)
        if subject is None:
            return
        _refuse_parallel(transformer)
        lost = [n for n, attention in self._attentions.items() if not self.family.entered(attention.processor)]
        if lost:
            raise AdapterNotAttachedError(
                f"the attention processors of layer(s) {lost} were replaced while a Pinco adapter was attached "
                "(load_ip_adapter and set_attn_processor do that); detach the adapter before, attach it after"
            )
        size = self.family.latent_size(args, kwargs, self._patch_size)
        rows, columns = subject.grid
        if size != ((rows, columns) if len(size) == 2 else (rows * columns,)):
            have = " x ".join(str(side) for side in size) if len(size) == 2 else str(prod(size))
            raise ValueError(
                f"the subject was encoded for {rows} x {columns} tokens, the latents have {have}: "
                "encode the subject at the size of the image"
            )
        if not self._checkpointed:
            for processor in self._processors.values():
                processor.hold(subject)

    def _begin(self, subject: Subject | None) -> None:
        """Note the subject of a forward, and whether a backward pass may come back for it."""
        self._current, self._inside = subject, True
        if self._checkpointed and not any(waiting is subject for waiting in self._to_rerun):
            self._to_rerun.append(subject)

    def _after_forward(self, transformer: Any, args: tuple[Any, ...], output: Any) -> None:
        self._current, self._inside = None, False
        for processor in self._processors.values():
            processor.hold(None)

    @property
    def _checkpointed(self) -> bool:
        """Whether layers may run again in a backward pass."""
        return torch.is_grad_enabled() and bool(getattr(self.transformer, "gradient_checkpointing", False))

    def _hand_over(
        self, attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before each attention: the subject of the forward that it belongs to."""
        if self._inside:
            return args, _with(kwargs, self._current)
        if len(self._to_rerun) > 1:
            raise RuntimeError(
                "gradient checkpointing runs the layers again in the backward pass, and cannot know any more which of "
                "several subjects they were given: go backward after each forward, and run forwards that are not "
                "trained on under torch.no_grad()"
            )
        if self._to_rerun:
            self._rerun = self._to_rerun.pop()
        return args, _with(kwargs, self._rerun)


class _Hook:
    """A hook that is left behind when the backbone is copied: the adapter is attached to the original alone."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return _nothing


def _refuse_parallel(transformer: Any) -> None:
    if getattr(transformer, "_parallel_config", None) is not None:
        raise ParallelBackboneError


def _nothing(*_: Any) -> None:
    """What a hook becomes in a copy."""


def _without_subject(
    attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Before an attention that the adapter does not enter: its processor takes no subject."""
    return args, {name: value for name, value in kwargs.items() if name != "subject"}


def _with(kwargs: dict[str, Any], subject: Subject | None) -> dict[str, Any]:
    return kwargs if subject is None else {**kwargs, "subject": subject}
