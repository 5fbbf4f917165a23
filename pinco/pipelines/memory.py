"""How much memory a backbone takes, read from its folder, and which placement fits into what is free.

Sizes are exact for weights, from the headers of their files, and an estimate for the work on them. Starts without
torch; nothing of the weights is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from pinco.pipelines.execution import PLAIN, Execution, PlacementName, Quantise
from pinco.weight_files import files_of_weights

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

KEPT_CANVAS_BYTES = 4 << 30
"""At most so much of a device's memory holds encoded canvases for their next batch."""

KEPT_CANVASES = 8

_USED = 0.95
"""Share of the free memory that is counted on; the rest is lost between blocks of the allocator."""

_STEP_TENSORS = 24
"""Tensors of tokens x width alive at once in a transformer block: its input, Q, K, V, the feed-forward's and the
residuals. An upper estimate for the blocks of all known families."""

_DECODER_TENSORS = 10
"""Tensors of pixels x first channels alive at once in a VAE's last decoder block."""

_TAYLOR_TENSORS = 2
"""Tensors of tokens x width that extrapolation keeps of each block: the last output and its slope."""

_HALVED: Mapping[Quantise, float] = {"none": 1.0, "int8": 0.51, "fp8": 0.51}
"""What quantised weights take of bfloat16, with their scales."""


@dataclass(frozen=True)
class ModelBytes:
    """Bytes of a pipeline in the numbers that it computes in.

    Attributes:
        text: Text encoders, together.
        transformer: The transformer, quantised where it is to be.
        rest: VAE and everything else of the pipeline.
        adapter: The adapter, and a ControlNet.
        work: Activations of one image, and the keys and values of canvases.
        beside: What the decode of one image takes more, while the next one is sampled.
    """

    text: int
    transformer: int
    rest: int
    adapter: int = 0
    work: int = 0
    beside: int = 0

    def needed(self, placement: PlacementName) -> int:
        """Memory of the device that a placement takes at its fullest."""
        resident = self.rest + self.adapter
        return {
            "resident": resident + self.text + self.transformer + self.work + self.beside,
            "offload_text": resident + max(self.text, self.transformer + self.work) + self.beside,
            "offload_model": self.adapter + max(self.text, self.transformer + self.work, self.rest + self.work),
        }.get(placement, self.adapter + self.work)


@dataclass(frozen=True)
class WeightPlacement:
    """A placement that was chosen.

    Attributes:
        name: Not "auto".
        line: What is to be said of it.
        swap: With "offload_text", text encoders and transformer do not fit beside each other.
    """

    name: PlacementName
    line: str
    swap: bool = False


def place_weights(
    execution: Execution, size: ModelBytes, free: int, *, accelerator: bool, single_layers: bool = True
) -> WeightPlacement:
    """The placement of the settings, or the first one that fits.

    On the CPU there is nowhere else to put weights: everything is resident, and it is said where that is too much.

    Args:
        execution: How the pipeline computes.
        size: Of the pipeline.
        free: Bytes of free memory of the device.
        accelerator: Whether the device is something else than the CPU.
        single_layers: Whether layers can be moved to the device one by one.
    """
    if not accelerator:
        size = replace(size, beside=0)  # one batch at a time
    weights = f"{_gib(size.text + size.transformer + size.rest + size.adapter)} of weights"
    given = f"{weights}, about {_gib(size.work + size.beside)} of work, {_gib(free)} free"
    if not accelerator:
        short = "" if size.needed("resident") <= free else "; memory is short, model.dtype: bfloat16 takes half"
        return WeightPlacement("resident", f"placement: resident ({given}{short})")
    swap = size.needed("resident") > free * _USED
    if execution.placement != "auto":
        return WeightPlacement(execution.placement, f"placement: {execution.placement}, as set ({given})", swap)
    names: list[PlacementName] = ["resident", "offload_text", "offload_model"]
    if single_layers and execution.quantise == "none" and not execution.compile:
        names.append("offload_sequential")
    name = next((name for name in names if size.needed(name) <= free * _USED), names[-1])
    short = "" if size.needed(name) <= free * _USED else "; memory is short, model.quantise: int8 takes half"
    return WeightPlacement(name, f"placement: {name} ({given}{short})", swap)


def model_bytes(
    backbone: str | Path,
    adapter: str | Path | None,
    controlnet: str | Path | None = None,
    *,
    dtype: str,
    execution: Execution = PLAIN,
    pixels: int,
    token_pixels: int,
) -> ModelBytes:
    """What the folders of a backbone, an adapter and a ControlNet will take.

    Args:
        backbone: Folder of a diffusers pipeline.
        adapter: Folder of an adapter.
        controlnet: Folder of a ControlNet, which stays on the device as an adapter does.
        dtype: What the pipeline computes in.
        execution: How the pipeline computes.
        pixels: Area of the images.
        token_pixels: Pixels of a token along one side.
    """
    item = ITEM_BYTES[dtype]
    folder = Path(backbone)
    parts = {part.name: _values(part) * item for part in sorted(folder.iterdir()) if part.is_dir()}
    transformer = parts.pop("transformer", 0)
    text = sum(parts.pop(name) for name in list(parts) if name.startswith("text_encoder"))
    if execution.quantise != "none":
        transformer = round(transformer * 2 / item * _HALVED[execution.quantise])
    added = sum(_values(Path(beside)) * item for beside in (adapter, controlnet) if beside is not None)
    tokens = pixels // token_pixels**2
    config = _config(folder / "transformer")
    width = _width(config)
    channels = _config(folder / "vae").get("block_out_channels") or [128]
    step = tokens * width * _STEP_TENSORS * item
    decode = pixels * int(channels[0]) * _DECODER_TENSORS * item
    blocks = sum(int(config.get(name) or 0) for name in ("num_layers", "num_single_layers"))
    remembered = _TAYLOR_TENSORS * blocks * tokens * width * item if execution.cache == "taylor" else 0
    canvas = _canvas_bytes(adapter, tokens, item)
    kept = max(canvas, min(canvas * KEPT_CANVASES, KEPT_CANVAS_BYTES))
    work = max(step, decode) + remembered + kept
    return ModelBytes(text, transformer, sum(parts.values()), added, work, min(step, decode))


def _canvas_bytes(adapter: str | Path | None, tokens: int, item: int) -> int:
    """Keys and values of all layers for one canvas, none of its tokens pruned."""
    config = {} if adapter is None else _config(Path(adapter))
    return 2 * len(config.get("layers") or ()) * tokens * int(config.get("inner_dim") or 0) * item


def _width(config: Mapping[str, Any]) -> int:
    heads, size = config.get("num_attention_heads"), config.get("attention_head_dim")
    return int(heads) * int(size) if heads and size else int(config.get("dim") or 0)


def _config(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _values(folder: Path) -> int:
    """Numbers in the weights of a component, from the files' headers."""
    return sum(
        prod(entry["shape"])
        for file in files_of_weights(folder)
        for name, entry in _header(file).items()
        if name != "__metadata__"
    )


def _header(file: Path) -> dict[str, Any]:
    """The JSON at the start of a safetensors file; empty where it cannot be read, which is the loader's to say."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(length, file.stat().st_size)))
    except (OSError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
