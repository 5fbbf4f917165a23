"""What an adapter is configured by: the backbone it was made for, and what of the method it uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from pinco.errors import PincoError

GateKind = Literal["head", "layer"]
Semantic = Literal["vae", "none"]
Shape = Literal["conv", "vae", "none"]
Mix = Literal["one", "complement"]
SemanticInit = Literal["backbone", "random"]
KeyNorm = Literal["rms", "layer", "none"]


@dataclass(frozen=True)
class BackboneDims:
    """The sizes that an adapter and its backbone must share.

    Attributes:
        family: Name of the backbone's family.
        inner_dim: Width of the backbone's tokens.
        num_heads: Attention heads.
        head_dim: Width of a head.
        depth: Number of attention layers that an adapter can enter.
        latent_channels: Channels of the latents as the backbone takes them.
        patch_size: Latent pixels per token along one side.
        vae_scale_factor: Pixels per latent pixel along one side.
        key_norm: How the backbone normalises the heads of its keys.
    """

    family: str
    inner_dim: int
    num_heads: int
    head_dim: int
    depth: int
    latent_channels: int
    patch_size: int
    vae_scale_factor: int
    key_norm: KeyNorm = "rms"

    @property
    def token_stride(self) -> int:
        """Pixels per token along one side."""
        return self.vae_scale_factor * self.patch_size

    @property
    def token_channels(self) -> int:
        """Channels of one packed latent token."""
        return self.latent_channels * self.patch_size**2


@dataclass(frozen=True)
class PincoConfig:
    """The registered configuration of a `PincoAdapter`, typed and checked.

    The first eight fields and the last one are the backbone's (`BackboneDims`); the rest choose parts of the method
    (Lu et al., arXiv 2412.03812, and this project's additions). `PincoAdapter.__init__` documents each of them.

    Raises:
        ValueError: Values that cannot work together.
    """

    family: str
    inner_dim: int
    num_heads: int
    head_dim: int
    depth: int
    latent_channels: int
    patch_size: int
    vae_scale_factor: int
    layers: tuple[int, ...]
    rank: int | None
    gate: GateKind
    anchor: bool
    prune: bool
    mask_dilation: int
    semantic: Semantic
    shape: Shape
    use_mask: bool
    use_depth: bool
    use_sobel: bool
    mix: Mix
    subject_dim: int
    shape_channels: int
    key_norm: KeyNorm

    @classmethod
    def from_registered(cls, registered: Mapping[str, Any]) -> Self:
        """Take the known fields out of a diffusers config, which also holds private entries.

        Args:
            registered: `model.config` of an adapter.
        """
        values = {field.name: registered[field.name] for field in fields(cls)}
        values["layers"] = tuple(values["layers"])
        return cls(**values)

    @property
    def backbone(self) -> BackboneDims:
        """The part that must equal the backbone's own dimensions."""
        return BackboneDims(**{field.name: getattr(self, field.name) for field in fields(BackboneDims)})

    def __post_init__(self) -> None:
        choices = {"gate": GateKind, "semantic": Semantic, "shape": Shape, "mix": Mix, "key_norm": KeyNorm}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, not {value!r}")
        if self.inner_dim != self.num_heads * self.head_dim:
            raise ValueError(f"inner_dim {self.inner_dim} is not {self.num_heads} heads of {self.head_dim}")
        depth = self.depth
        wrong = [layer for layer in self.layers if not 0 <= layer < depth]
        if wrong or len(set(self.layers)) != len(self.layers) or not self.layers:
            raise ValueError(f"layers must be distinct numbers from 0 to {depth - 1}, at least one; got {self.layers}")
        if self.rank is not None and not 1 <= self.rank <= min(self.subject_dim, self.inner_dim):
            limit = min(self.subject_dim, self.inner_dim)
            raise ValueError(f"rank must lie between 1 and {limit}, or be None for full rank; got {self.rank}")
        if self.semantic == "none" and self.shape == "none":
            raise ValueError("semantic and shape are both 'none': no branch is left to make subject tokens from")
        if self.shape != "none" and not (self.use_mask or self.use_depth or self.use_sobel):
            raise ValueError("the shape branch needs at least one of use_mask, use_depth and use_sobel")
        if self.mask_dilation < 0:
            raise ValueError(f"mask_dilation is counted in tokens and cannot be negative; got {self.mask_dilation}")
        stride = self.backbone.token_stride
        if stride & (stride - 1):
            raise ValueError(f"the shape branch halves its input per layer; {stride} pixels per token is no power of 2")


def upgraded(registered: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an adapter saved by any version, in today's terms.

    Until 0.1 the depth was written as two numbers of blocks.
    """
    config = dict(registered)
    counts = [config.pop(name) for name in ("num_layers", "num_single_layers") if name in config]
    if counts:
        config["depth"] = sum(counts)
    return config


class BackboneMismatchError(PincoError, ValueError):
    """An adapter was put on a backbone that it was not made for. The message names both configurations."""

    code = "backbone_mismatch"

    def __init__(self, adapter: BackboneDims, backbone: BackboneDims) -> None:
        made_for, found = asdict(adapter), asdict(backbone)
        differing = ", ".join(name for name in made_for if made_for[name] != found[name])
        super().__init__(
            "this adapter was made for another backbone; they differ in "
            f"{differing}.\n  adapter:  {_in_words(made_for)}\n  backbone: {_in_words(found)}\n"
            "Load the backbone the adapter was trained on, or make a new adapter with PincoAdapter.for_backbone."
        )


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
