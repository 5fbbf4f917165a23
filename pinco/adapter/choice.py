"""Which layers an adapter enters and how large its projections are, where it is made for a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pinco.adapter.config import BackboneDims
from pinco.adapter.families import family_of

Layers = str | tuple[int, ...] | list[int]
Rank = int | Literal["auto"] | None

FULL_RANK_WIDTH = 1024
LARGE_RANK = 128


def adapter_config(
    transformer: Any,
    vae_config: Mapping[str, Any] | None,
    *,
    layers: Layers = "all",
    subject_dim: int | None = None,
    rank: Rank = "auto",
) -> dict[str, Any]:
    """The arguments of `PincoAdapter.__init__` that depend on the backbone. No weights are read.

    Args:
        transformer: The backbone; it may lie on the meta device.
        vae_config: `vae.config`; `None` assumes the family's usual VAE.
        layers: "all", a name of the family's for a group of layers, or layer numbers.
        subject_dim: Width of the subject tokens; the backbone's unless given.
        rank: Of the subject projections; `None` is full rank, "auto" is `usual_rank`'s.

    Raises:
        UnknownFamilyError: A backbone of no known family.
        ValueError: An unknown name of layers, or another rank than a whole number, "auto" or `None`.
    """
    family = family_of(transformer)
    dims: BackboneDims = family.dims(transformer, vae_config)
    width = subject_dim or dims.inner_dim
    if rank == "auto":
        rank = usual_rank(width, dims.inner_dim)
    elif isinstance(rank, str):
        raise ValueError(f"rank must be a whole number, 'auto', or None for full rank, not {rank!r}")
    groups = {"all": range(dims.depth), **family.layer_groups(transformer)}
    return {**asdict(dims), "layers": layer_numbers(layers, groups), "subject_dim": width, "rank": rank}


def usual_rank(subject_dim: int, inner_dim: int) -> int | None:
    """The rank where none is given: full (`None`) for small backbones, 128 for large ones.

    Full rank costs `2 D^2` parameters a layer: 1.1 billion on 57 layers 3072 wide, nearly a tenth of such a backbone,
    with two optimiser states for each. Rank 128 costs `4 * 128 * D`: 90 million there, the range of the low-rank
    updates that such backbones are usually fine-tuned by. It is a choice: no experiment of this project compares ranks
    on a large backbone.

    Args:
        subject_dim: Width of the subject tokens.
        inner_dim: The backbone's width.
    """
    return None if max(subject_dim, inner_dim) <= FULL_RANK_WIDTH else min(LARGE_RANK, subject_dim, inner_dim)


def layer_numbers(layers: Layers, groups: Mapping[str, range]) -> tuple[int, ...]:
    """Layer numbers, in order.

    Args:
        layers: A name of a group, or layer numbers.
        groups: The groups by name.

    Raises:
        ValueError: An unknown name.
    """
    if isinstance(layers, str):
        if layers not in groups:
            raise ValueError(f"layers must be {', '.join(groups)} or layer numbers, not {layers!r}")
        return tuple(groups[layers])
    return tuple(sorted(layers))
