"""The attention processor that all families share: when the subject is attended to, and with which keys.

A family's processor adds what only the family knows: the arguments of its attention, its projections and its output.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from pinco.adapter.attention import subject_attention
from pinco.adapter.equation import Form
from pinco.adapter.kernels.choice import active_backend
from pinco.adapter.layer import SubjectLayer
from pinco.adapter.positions import Positions
from pinco.adapter.subject import KeyValue, Subject, tile


class AttachedAdapter(Protocol):
    """What the processors of an attached adapter ask of it."""

    @property
    def anchor(self) -> bool:
        """Whether the subject keys carry the positions of their latent tokens."""

    @property
    def disabled(self) -> bool:
        """Whether the adapter's scale is zero."""

    def weights(self, layer: SubjectLayer) -> tuple[Tensor, Tensor]:
        """`a` and `b` of one layer."""

    def positions(self, grid: tuple[int, int], device: Any) -> Positions | None:
        """The positions that the backbone gives an image of `grid` tokens, where the grid alone decides them."""


@dataclass(frozen=True)
class Projections:
    """The backbone's own queries, keys and values of one attention call.

    Attributes:
        query: `[B, S, H, D]`, normalised and with positions.
        key: As `query`.
        value: `[B, S, H, D]`.
        positions: Of the image tokens, where the call holds them.
        keep: `[B, S]` bool, `False` for keys that nobody may attend to; `None` where all may be.
        carried: What `SubjectProcessor.output` needs besides, where one projection makes more than these.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    positions: Positions | None = None
    keep: Tensor | None = None
    carried: Any = None


class SubjectProcessor(ABC):
    """Attention processor of one adapted layer. No `nn.Module`, so that no weight enters the backbone's state dict.

    Without a subject, and where the layer's gates are all zero, it hands the call to the original processor: only the
    backbone's own kernel is bit-identical to the backbone.

    A family's class defines `__call__` with the very arguments of the original processor plus `subject`, because
    diffusers passes on only what a processor's signature names, and calls `attend` from there.

    Attributes:
        form: Which form of the equation the family takes.
    """

    form: ClassVar[Form] = "joint"

    def __init__(
        self,
        number: int | None = None,
        layer: SubjectLayer | None = None,
        adapter: AttachedAdapter | None = None,
        base: Any = None,
    ) -> None:
        """Stand in for `base` at layer `number`.

        Raises:
            RuntimeError: An argument is missing: diffusers' `load_ip_adapter` makes processors again, from their class
                alone.
        """
        if number is None or layer is None or adapter is None or base is None:
            raise RuntimeError(
                "a Pinco adapter is attached to this backbone and its processors cannot be made anew: "
                "call adapter.detach() before load_ip_adapter or set_attn_processor"
            )
        self.number = number
        self.layer = layer
        self.adapter = adapter
        self.base = base
        self._holds = False
        self._held: KeyValue | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """The copy of a backbone has its own processor again: no adapter is attached to it."""
        return copy.deepcopy(self.base, memo)

    # What diffusers sets on a processor is the original's: `hasattr` finds here what it finds there.

    @property
    def _attention_backend(self) -> Any:
        return self.base._attention_backend

    @_attention_backend.setter
    def _attention_backend(self, backend: Any) -> None:
        self.base._attention_backend = backend

    @property
    def _parallel_config(self) -> Any:
        return self.base._parallel_config

    @_parallel_config.setter
    def _parallel_config(self, config: Any) -> None:
        self.base._parallel_config = config

    def hold(self, subject: Subject | None) -> None:
        """Keep the layer's keys and values of a cached subject for one forward; `None` lets them go.

        So every layer reads an attribute of its own: one compiled graph serves all layers, where a look-up by number
        would make one for each.
        """
        self._holds = subject is not None and subject.cache is not None
        self._held = None if subject is None or subject.cache is None else subject.cache[self.number]

    @abstractmethod
    def projections(self, attn: Any, image_tokens: int, *args: Any) -> Projections:
        """The backbone's own queries, keys and values.

        Args:
            attn: The attention module.
            image_tokens: How many of the tokens are the image's, so that their rows of a table can be found.
            args: Those of `attend`.

        Raises:
            ValueError: The call holds an attention mask that the family cannot take beside a subject.
        """

    @abstractmethod
    def output(self, attn: Any, attended: Tensor, own: Projections, *args: Any) -> Any:
        """What the original processor returns.

        Args:
            attn: The attention module.
            attended: `[B, S, H * D]`.
            own: What `projections` made.
            args: Those of `attend`.
        """

    def attend(self, attn: Any, subject: Subject | None, *args: Any) -> Any:
        """Attend, to the subject too if there is one that this layer lets in.

        Args:
            attn: The attention module.
            subject: What to attend to.
            args: What the original processor takes after `attn`, in its order.

        Returns:
            What the original processor returns.
        """
        if subject is None or self.adapter.disabled:
            return self.base(attn, *args)
        cached = self._cached(subject)
        if subject.cache is not None and cached is None:
            return self.base(attn, *args)
        a, b = self.adapter.weights(self.layer)
        if subject.cache is None and self._closed(b):
            return self.base(attn, *args)
        own = self.projections(attn, subject.latent_tokens, *args)
        subject_key, subject_value = self._keys_values(subject, cached, own)
        q, k, v, ks, vs = (x.transpose(1, 2) for x in (own.query, own.key, own.value, subject_key, subject_value))
        keep = None if subject.keep is None else tile(subject.keep, q.shape[0])
        lengths = None if subject.lengths is None else subject.lengths * (q.shape[0] // subject.batch)
        attended = subject_attention(
            q, k, v, ks, vs, a, b, keep, own.keep, self.form, lengths, active_backend(self.base)
        )
        return self.output(attn, attended.transpose(1, 2).flatten(2, 3), own, *args)

    @property
    def _learning(self) -> bool:
        return torch.is_grad_enabled() and self.layer.gate.value.requires_grad

    def _cached(self, subject: Subject) -> KeyValue | None:
        """The layer's keys and values; `None` without a cache, and for a layer with closed gates.

        Outside of a forward nothing is held: gradient checkpointing runs layers again in the backward pass.
        """
        if subject.cache is None:
            return None
        return self._held if self._holds else subject.cache[self.number]

    def _closed(self, b: Tensor) -> bool:
        """Whether all gates are zero, and nothing is to be learnt about them.

        While training, a zero gate must still get its gradient. A test of values would break a compiled graph, and on
        an accelerator it waits for the device, which is why a cache settles it once per subject.
        """
        return not self._learning and not torch.compiler.is_compiling() and not bool(b.any())

    def _keys_values(self, subject: Subject, cached: KeyValue | None, own: Projections) -> KeyValue:
        """The subject's keys and values for every sample of the call."""
        batch = own.query.shape[0]
        if subject.cache is None:
            positions = None
            if self.adapter.anchor:
                positions = own.positions or self.adapter.positions(subject.grid, subject.tokens.device)
            return keys_values(self.layer, subject, positions, batch)
        if self._learning:
            raise RuntimeError("a cached subject carries no gradients: encode it with cache=False to train")
        assert cached is not None  # `attend` has sent those to the base processor
        keys, values = (tile(tensor, batch) for tensor in cached)
        if self.adapter.anchor and not subject.anchored and own.positions is not None:
            keys = own.positions.on_keys(keys, None if subject.index is None else tile(subject.index, batch))
        return keys, values


def keys_values(
    layer: SubjectLayer, subject: Subject, positions: Positions | None, batch: int | None = None
) -> KeyValue:
    """A layer's keys and values for a subject.

    Args:
        layer: The adapter's part of the layer.
        subject: Its tokens are projected; its cache is not read.
        positions: One row per latent token, which the keys are anchored to; `None` leaves them without positions.
        batch: Samples to tile the subjects to; `None` leaves their number.

    Returns:
        Two tensors `[B, N_sub, H, D]`.
    """
    batch = batch or subject.batch
    key_tokens = None if positions is None else positions.on_tokens(subject.tokens, subject.index, subject.spread)
    keys, values = (tile(tensor, batch) for tensor in layer(subject.tokens, key_tokens))
    if positions is not None:
        keys = positions.on_keys(keys, None if subject.index is None else tile(subject.index, batch))
    return keys, values
