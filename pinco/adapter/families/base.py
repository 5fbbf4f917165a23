"""What the adapter needs to know of a backbone family; `docs/adding-a-family.md` walks through one.

A family is one module in this folder with an instance named `FAMILY`. Everything that depends on a backbone's
architecture is behind `Family` and the family's `SubjectProcessor`; everything else is written once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from diffusers.models.normalization import RMSNorm
from torch import Tensor, nn

from pinco.adapter.config import BackboneDims, KeyNorm
from pinco.adapter.initialise import Dense, dense
from pinco.adapter.layer import SubjectLayer
from pinco.adapter.positions import Positions
from pinco.adapter.processor import AttachedAdapter, SubjectProcessor


class Family(ABC):
    """A backbone family; one instance serves all its models.

    Attributes:
        name: Stands in the configuration of every adapter of this family. Never change it.
        processors: The processor class that stands in for each of the backbone's original ones.
        attention_argument: Name of the argument by which the family's pipelines and transformers pass a mapping down to
            their attention layers. `None` where there is none: then hooks bring the subject there.
    """

    name: ClassVar[str]
    processors: ClassVar[Mapping[type, type[SubjectProcessor]]]
    attention_argument: ClassVar[str | None] = None

    @abstractmethod
    def owns(self, transformer: Any) -> bool:
        """Whether the transformer is of this family."""

    @abstractmethod
    def dims(self, transformer: Any, vae_config: Mapping[str, Any] | None) -> BackboneDims:
        """The backbone's sizes.

        Args:
            transformer: The backbone.
            vae_config: `vae.config`; without it the scale factor is the family's usual one.

        Raises:
            ValueError: The VAE's latents are not what the transformer takes.
        """

    def dims_of(
        self,
        transformer: Any,
        vae_config: Mapping[str, Any] | None,
        *,
        latent_channels: int,
        patch_size: int,
        usual_vae_scale: int,
    ) -> BackboneDims:
        """`dims` for a transformer whose config counts heads as diffusers usually names them.

        Args:
            transformer: The backbone.
            vae_config: As for `dims`, of an `AutoencoderKL` or one with its blocks.
            latent_channels: Of the latents that it takes.
            patch_size: Latent pixels per token along one side.
            usual_vae_scale: Of the family's VAE, where none is given.

        Raises:
            ValueError: As `dims`.
        """
        config, attentions = transformer.config, self.attentions(transformer)
        return BackboneDims(
            family=self.name,
            inner_dim=config.num_attention_heads * config.attention_head_dim,
            num_heads=config.num_attention_heads,
            head_dim=config.attention_head_dim,
            depth=len(attentions),
            latent_channels=latent_channels,
            patch_size=patch_size,
            vae_scale_factor=usual_vae_scale if vae_config is None else vae_scale(vae_config, latent_channels),
            key_norm=key_norm_kind(self.key_norm(attentions[0])),
        )

    @abstractmethod
    def attentions(self, transformer: Any) -> Sequence[nn.Module]:
        """The attention modules that an adapter can enter. Their places in this sequence are the layer numbers."""

    def layer_groups(self, transformer: Any) -> Mapping[str, range]:
        """Names for ranges of layer numbers, for `PincoAdapter.for_backbone(layers=...)`, beside "all"."""
        return {}

    @abstractmethod
    def embedder(self, transformer: Any) -> Dense:
        """The patch embedder as a map over packed tokens, `[inner_dim, C p p]`, channels first within a token."""

    def key_value(self, attention: Any) -> tuple[Dense, Dense]:
        """The key and value projections of one attention, for the image's tokens."""
        return dense(attention.to_k), dense(attention.to_v)

    def key_norm(self, attention: Any) -> nn.Module | None:
        """The norm over the heads of one attention's image keys, if there is one."""
        norm: nn.Module | None = getattr(attention, "norm_k", None)
        return norm

    @abstractmethod
    def clean_modulations(self, transformer: Any) -> Sequence[tuple[Tensor, Tensor]]:
        """Per layer the `(shift, scale)`, each `[inner_dim]` float32 on the CPU, that make the input of its attention
        from the layer norm of a noise-free image: `(1 + scale) * norm(x) + shift`."""

    @abstractmethod
    def positions(self, transformer: Any, grid: tuple[int, int], device: Any) -> Positions | None:
        """The positions of an image's tokens.

        Args:
            transformer: The backbone.
            grid: Rows and columns of tokens.
            device: Where the tables are to lie.

        Returns:
            One row per token. `None` where more than the grid decides them (the prompt's length, say): then the keys
            are cached without positions and anchored in each call, to what `SubjectProcessor.projections` finds there.
        """

    def latent_size(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], patch_size: int) -> tuple[int, ...]:
        """The size of the latents in a call of the transformer.

        Args:
            args: Positional arguments of the transformer's forward.
            kwargs: Its keyword arguments.
            patch_size: Latent pixels per token along one side.

        Returns:
            `(tokens,)` for packed latents `[B, N, C]`, `(rows, columns)` of tokens for latents `[B, C, h, w]`.
        """
        latents: Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        if latents.ndim == 3:
            return (latents.shape[1],)
        return (latents.shape[-2] // patch_size, latents.shape[-1] // patch_size)

    def processor(self, number: int, layer: SubjectLayer, adapter: AttachedAdapter, base: Any) -> SubjectProcessor:
        """The processor for layer `number`, over its original one.

        Raises:
            ValueError: `base` is not one of the backbone's own: it would not be called any more.
        """
        made = self.processors.get(type(base))
        if made is None:
            raise ValueError(
                f"layer {number} of the backbone has a foreign attention processor ({type(base).__name__}), which "
                "Pinco would replace. Take off what put it there (unload_ip_adapter, adapter.detach), then attach Pinco"
            )
        return made(number, layer, adapter, base)

    def entered(self, processor: Any) -> bool:
        """Whether the processor is one of this family's own."""
        return type(processor) in self.processors.values()


def key_norm_kind(norm: nn.Module | None) -> KeyNorm:
    """What `BackboneDims.key_norm` says of a backbone's key norm.

    Raises:
        ValueError: A norm of another kind, which subject keys could not be given.
    """
    if norm is None:
        return "none"
    if isinstance(norm, (RMSNorm, nn.RMSNorm)):
        return "rms"
    if isinstance(norm, nn.LayerNorm):
        return "layer"
    raise ValueError(f"the backbone normalises its keys by {type(norm).__name__}; known: RMSNorm, LayerNorm, none")


def vae_scale(vae_config: Mapping[str, Any], latent_channels: int) -> int:
    """Pixels per latent pixel along one side, from the number of the VAE's blocks.

    Args:
        vae_config: `vae.config` of an `AutoencoderKL`.
        latent_channels: What the transformer takes.

    Raises:
        ValueError: The VAE makes another number of latent channels.
    """
    if vae_config["latent_channels"] != latent_channels:
        raise ValueError(
            f"the VAE makes {vae_config['latent_channels']} latent channels, the transformer takes {latent_channels}"
        )
    return int(2 ** (len(vae_config["block_out_channels"]) - 1))
