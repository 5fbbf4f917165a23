"""Load a backbone of any known family, an adapter onto it, and a ControlNet beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

from pinco.adapter import PincoAdapter
from pinco.pipelines.controlnet_folder import ControlNetError, ControlNetFolder
from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.execution import PLAIN, Execution
from pinco.pipelines.families import PipelineFamily, pipeline_family
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.memory import WeightPlacement, model_bytes, place_weights
from pinco.pipelines.pipeline import PincoPipeline
from pinco.pipelines.placement import free_memory, put, quantisation
from pinco.pipelines.progress import no_progress_bars

ALIGNMENT = 64
"""Bytes; torch's own memory on the CPU begins at multiples of it."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_pipeline(
    backbone: str | Path,
    adapter: str | Path | None = None,
    *,
    controlnet: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    local_files_only: bool = True,
    execution: Execution = PLAIN,
    pixels: int | None = None,
    memory_share: float = 1.0,
) -> PincoPipeline:
    """Load a backbone of any known family, an adapter onto it, and a ControlNet beside it.

    Args:
        backbone: A folder (or a hub id, with `local_files_only=False`) that diffusers can read.
        adapter: A folder or hub id of a Pinco adapter for this backbone.
        controlnet: A folder of an inpainting ControlNet for this backbone, which must then be a folder too.
        device: Where everything computes.
        dtype: "float32", "bfloat16" or "float16", of the backbone; the adapter's projections are cast with it.
        local_files_only: Never ask the hub.
        execution: How it computes (`BackboneFolder.choose` makes it from settings).
        pixels: Area of the images, by which an automatic placement judges the memory; None = the backbone's usual one.
        memory_share: What this process may take of an accelerator's memory, which others may be about to fill.

    Raises:
        UnknownPipelineError: The folder holds a pipeline of no known family.
        BackboneMismatchError: The adapter was made for another backbone.
        ControlNetError: The ControlNet was, or is none for inpainting.
        PickledWeightsError: Weights in a folder are no safetensors.
        RemoteCodeError: The backbone comes with program code of its own.
        ExecutionError: The device or the machine cannot compute that way.
        ValueError: Another dtype, or a `pinco.json` that cannot be read.
        OSError: Nothing can be loaded from there.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    folder = BackboneFolder(backbone) if Path(backbone).is_dir() else None  # says what is wrong before it is opened
    control = None if controlnet is None else _controlnet_folder(controlnet, folder, backbone)
    index = DiffusionPipeline.load_config(str(backbone), local_files_only=local_files_only)
    name = index["_class_name"]
    family = pipeline_family(name, backbone).variant(index)
    # A folder may be saved without a text encoder; diffusers wants to hear again that it is not there.
    absent = {part: None for part, source in index.items() if isinstance(source, list | tuple) and None in source}
    loading = {"dtype": DTYPES[dtype], "local_files_only": local_files_only}
    how: dict[str, Any] = quantisation(execution.quantise, device, family.unquantised)
    how["variant"] = folder.variant if folder else None
    free = free_memory(device, memory_share)
    placed = _place(folder, (adapter, controlnet), execution, free, device=device, dtype=dtype, pixels=pixels)
    with no_progress_bars():
        pipeline_class = family.pipeline_class(name)
        pipe = pipeline_class.from_pretrained(str(backbone), use_safetensors=True, **absent, **loading, **how)
        loaded = None if adapter is None else PincoAdapter.from_pretrained(str(adapter), **loading)
        beside = None if control is None else _load_controlnet(control, family, **loading)
        if dtype == "float32" and torch.device(device).type == "cpu":
            align([part for part in (*pipe.components.values(), loaded, beside) if isinstance(part, nn.Module)])
        text_stage = put(pipe, placed.name, device, swap=placed.swap)
        loaded = loaded and loaded.to(device)
        beside = beside and beside.to(device)
    defaults = GenerationDefaults.read(backbone, family.usual(pipe.transformer.config))
    return PincoPipeline(
        pipe, loaded, defaults, controlnet=beside, execution=execution, placement=placed, text_stage=text_stage
    )


def _controlnet_folder(path: str | Path, backbone: BackboneFolder | None, named: str | Path) -> ControlNetFolder:
    if backbone is None:
        raise ControlNetError(f"a ControlNet needs a backbone in a folder, and {named} is none: download it first")
    return ControlNetFolder(path, backbone)


def _load_controlnet(folder: ControlNetFolder, family: PipelineFamily, **loading: Any) -> Any:
    loading["torch_dtype"] = loading.pop("dtype")
    controlnet, options = family.controlnet_class(), {**family.controlnet_options, **loading}
    return controlnet.from_pretrained(str(folder.path), use_safetensors=True, **options)


def align(modules: Iterable[nn.Module]) -> None:
    """Copy weights that lie at odd addresses, in place.

    Files are mapped into memory, and nothing in them is aligned. The CPU's matrix products take other ways for such
    addresses, with other last bits: images would depend on how the files are laid out, which their ids do not say. In
    half precision, which large backbones have, weights stay mapped: processes share them in the page cache.
    """
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
                tensor.data = tensor.data.clone()


def _place(
    folder: BackboneFolder | None,
    beside: Sequence[str | Path | None],
    execution: Execution,
    free: int,
    *,
    device: str,
    dtype: str,
    pixels: int | None,
) -> WeightPlacement:
    """Where the weights go; a hub id, whose files are not known yet, is resident unless it is told otherwise."""
    if folder is None:
        name = "resident" if execution.placement == "auto" else execution.placement
        return WeightPlacement(name, f"placement: {name}")
    adapter, controlnet = beside
    size = model_bytes(
        folder.path,
        adapter,
        controlnet,
        dtype=dtype,
        execution=execution,
        pixels=pixels or folder.defaults.working_pixels,
        token_pixels=folder.size_multiple,
    )
    accelerator = torch.device(device).type != "cpu"
    layers = folder.family.single_layers
    return place_weights(execution, size, free, accelerator=accelerator, single_layers=layers)
