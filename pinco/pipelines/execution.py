"""How a pipeline computes: where its weights lie, in which numbers, what is compiled and what is skipped.

Also the presets, names for combinations. Starts without torch, because plans are made with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, get_args, get_type_hints

from pinco.errors import PincoError

PlacementName = Literal["auto", "resident", "offload_text", "offload_model", "offload_sequential"]
Quantise = Literal["none", "int8", "fp8"]
CacheName = Literal["none", "first_block", "taylor", "dbcache"]
Tiling = Literal["auto", "on", "off"]
PresetName = Literal["quality", "balanced", "fast", "draft"]

TILED_FROM = 1536 * 1536
"""Pixels above which the VAE works in tiles by itself: one of 2048 x 2048 takes about 10 GiB in one piece."""

FEWEST_STEPS = 4
"""A preset never takes fewer; backbones that are distilled to fewer keep theirs."""


class ExecutionError(PincoError, ValueError):
    """A way to compute that this backbone, this device or this machine does not have. The message names another one."""

    code = "unsupported_execution"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a pipeline computes.

    The placement decides memory and time and no pixel. The others decide pixels, so they belong to the generation id.

    Attributes:
        placement: Where weights wait: all on the device ("resident"), text encoders in main memory once the prompts are
            encoded ("offload_text"), every component there while another one works ("offload_model"), or every layer
            ("offload_sequential"); the last two are diffusers' own. "auto" decides by the free memory.
        quantise: Number format of the transformer's linear weights; the adapter keeps its own.
        compile: Compile the transformer's repeated blocks (`torch.compile`).
        cache: "first_block" skips the blocks behind the first one in steps in which that changes little; "taylor"
            computes attentions in every third step and extrapolates them in between (TaylorSeer, arXiv 2503.06923);
            "dbcache" is as "first_block" with several first blocks (DBCache, of the package cache-dit).
        vae_tiling: Whether the VAE works in tiles; "auto" does so above `TILED_FROM` pixels.

    Raises:
        ExecutionError: An unknown value, or values that exclude each other.
    """

    placement: PlacementName = "auto"
    quantise: Quantise = "none"
    compile: bool = False
    cache: CacheName = "none"
    vae_tiling: Tiling = "auto"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, allowed = getattr(self, name), get_args(kind) or (True, False)
            if value not in allowed:
                raise ExecutionError(f"model.{name} must be one of {', '.join(map(str, allowed))}, not {value!r}")
        if self.placement == "offload_sequential" and (self.quantise != "none" or self.compile):
            other = "model.compile" if self.compile else f"model.quantise: {self.quantise}"
            raise ExecutionError(
                f"model.placement: offload_sequential moves single layers, which {other} does not allow: leave one of "
                "the two out, or take offload_model"
            )

    def tiles(self, size: tuple[int, int]) -> bool:
        """Whether the VAE works in tiles on an image of (width, height) pixels."""
        return self.vae_tiling == "on" or (self.vae_tiling == "auto" and size[0] * size[1] > TILED_FROM)


PLAIN = Execution()
"""Nothing quantised, compiled or taken over."""


@dataclass(frozen=True)
class Capabilities:
    """What a backbone's family and the device have, beside the plain way to compute.

    Attributes:
        caches: Values of `Execution.cache` other than "none".
        compile: Whether blocks can be compiled.
        accelerator: Whether the device is something else than the CPU.
        single_layers: Whether layers can be moved to the device one by one.
    """

    caches: Collection[str] = ()
    compile: bool = False
    accelerator: bool = False
    single_layers: bool = True


@dataclass(frozen=True)
class Preset:
    """A named combination: a share of the backbone's usual steps, and ways to compute."""

    steps: float = 1.0
    cache: CacheName = "none"
    compile: bool = False
    quantise: Quantise = "none"


PRESETS: Mapping[PresetName, Preset] = {
    "quality": Preset(),
    "balanced": Preset(steps=0.75, compile=True),
    "fast": Preset(steps=0.6, cache="first_block", compile=True),
    "draft": Preset(steps=0.35, cache="first_block"),
}


@dataclass(frozen=True)
class Choice:
    """What settings say of the execution; None was not said, and is left to the preset or the defaults."""

    preset: PresetName | None = None
    placement: PlacementName = "auto"
    quantise: Quantise | None = None
    compile: bool | None = None
    cache: CacheName | None = None
    vae_tiling: Tiling = "auto"

    @classmethod
    def of(cls, settings: Any) -> Self:
        """From an object that has the fields as attributes."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})

    def steps(self, usual: int) -> int | None:
        """The steps that the preset wants of a backbone with so many usual ones; None where it leaves them alone."""
        share = PRESETS[self.preset].steps if self.preset else 1.0
        return None if share == 1.0 else max(round(usual * share), min(usual, FEWEST_STEPS))

    def execution(self, there: Capabilities) -> Execution:
        """The preset, with what was said in its place.

        Of a preset only that counts which is there; what was said must be there.

        Raises:
            ExecutionError: The family has no such cache or cannot be compiled, or values exclude each other.
        """
        preset = PRESETS[self.preset or "quality"]
        chosen = Execution(
            placement=self.placement,
            vae_tiling=self.vae_tiling,
            quantise=self.quantise or preset.quantise,
            cache=preset.cache if preset.cache in there.caches else "none",
            compile=preset.compile
            and there.compile
            and there.accelerator
            and self.compile is None
            and self.placement != "offload_sequential",
        )
        if self.cache not in (None, "none") and self.cache not in there.caches:
            known = " or ".join(["none", *sorted(there.caches)])
            raise ExecutionError(f"model.cache: {self.cache} is not there for this backbone: set it to {known}")
        if self.placement == "offload_sequential" and not there.single_layers:
            raise ExecutionError(
                "model.placement: offload_sequential is not there for this backbone: set it to offload_model"
            )
        if self.compile and not there.compile:
            raise ExecutionError("model.compile is not there for this backbone: set it to false")
        return replace(chosen, cache=self.cache or chosen.cache, compile=self.compile or chosen.compile)
