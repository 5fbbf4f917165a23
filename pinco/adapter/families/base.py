"""What the adapter needs to know of a backbone family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from pinco.adapter.config import BackboneDims
from pinco.adapter.layer import SubjectLayer
from pinco.adapter.positions import Rotary
from pinco.adapter.subject import KeyValue, Subject


class AttachedAdapter(Protocol):
    """What the processors of an attached adapter ask of it."""

    @property
    def anchor(self) -> bool:
        """Whether the subject keys carry the positions of their latent tokens."""

    @property
    def silent(self) -> bool:
        """Whether the adapter is scaled to nothing."""

    def weights(self, layer: SubjectLayer) -> tuple[Tensor, Tensor]:
        """`a` and `b` of one layer."""


class Family(Protocol):
    """A backbone family; one instance serves all its models."""

    name: str

    def owns(self, transformer: Any) -> bool:
        """Whether the transformer is of this family."""

    def dims(self, transformer: Any, vae_config: Mapping[str, Any] | None) -> BackboneDims:
        """The backbone's sizes; without a VAE config its scale factor is the family's usual one."""

    def attentions(self, transformer: Any) -> Sequence[nn.Module]:
        """The attention modules that an adapter can enter, in the order of `layers`."""

    def embedder(self, transformer: Any) -> nn.Module:
        """The linear layer that makes the backbone's tokens from packed latents."""

    def clean_modulations(self, transformer: Any) -> Sequence[tuple[Tensor, Tensor]]:
        """Per layer the `(shift, scale)` that its attention's input norm applies to a noise-free image."""

    def positions(self, transformer: Any, grid: tuple[int, int], device: Any) -> Rotary | None:
        """The positional table of an image of `grid` tokens, where the family has one."""

    def keys_values(self, layer: SubjectLayer, subject: Subject, positions: Rotary | None) -> KeyValue:
        """A layer's anchored keys and values for a subject; `positions` is `None` where there is no anchor."""

    def processor(self, number: int, layer: SubjectLayer, adapter: AttachedAdapter, base: Any) -> Any:
        """The processor for layer `number`, over its original one. Raises `ValueError` for a foreign `base`."""

    def entered(self, processor: Any) -> bool:
        """Whether the processor is one of this adapter's own."""
