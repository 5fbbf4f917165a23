"""Load a backbone of any known family, an adapter onto it, and a ControlNet beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from pinco.adapter import PincoAdapter
from pinco.pipelines.controlnet_folder import ControlNetError, ControlNetFolder
from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.families import PipelineFamily, pipeline_family
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.pipeline import PincoPipeline
from pinco.pipelines.progress import no_progress_bars

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_pipeline(
    backbone: str | Path,
    adapter: str | Path | None = None,
    *,
    controlnet: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    local_files_only: bool = True,
) -> PincoPipeline:
    """Load a backbone of any known family, an adapter onto it, and a ControlNet beside it.

    Args:
        backbone: A folder (or a hub id, with `local_files_only=False`) that diffusers can read.
        adapter: A folder or hub id of a Pinco adapter for this backbone.
        controlnet: A folder of an inpainting ControlNet for this backbone, which must then be a folder too.
        device: Where everything computes.
        dtype: "float32", "bfloat16" or "float16", of the backbone; the adapter's projections are cast with it.
        local_files_only: Never ask the hub.

    Raises:
        UnknownPipelineError: The folder holds a pipeline of no known family.
        BackboneMismatchError: The adapter was made for another backbone.
        ControlNetError: The ControlNet was, or is none for inpainting.
        PickledWeightsError: Weights in a folder are no safetensors.
        ValueError: Another dtype, or a `pinco.json` that cannot be read.
        OSError: Nothing can be loaded from there.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if Path(backbone).is_dir():
        folder = BackboneFolder(backbone)  # says what is wrong with a folder before anything of it is opened
        control = None if controlnet is None else ControlNetFolder(controlnet, folder)
    elif controlnet is None:
        control = None
    else:
        raise ControlNetError(
            f"a ControlNet needs a folder for its backbone, and {backbone} is none: download it first"
        )
    index = DiffusionPipeline.load_config(str(backbone), local_files_only=local_files_only)
    name = index["_class_name"]
    family = pipeline_family(name, backbone).variant(index)
    # A folder may be saved without a text encoder; diffusers wants to hear again that it is not there.
    absent = {part: None for part, source in index.items() if isinstance(source, list | tuple) and None in source}
    loading = {"dtype": DTYPES[dtype], "local_files_only": local_files_only}
    with no_progress_bars():
        pipeline_class = family.pipeline_class(name)
        pipe = pipeline_class.from_pretrained(str(backbone), use_safetensors=True, **absent, **loading).to(device)
        loaded = None if adapter is None else PincoAdapter.from_pretrained(str(adapter), **loading).to(device)
        beside = None if control is None else _load_controlnet(control, family, **loading).to(device)
    defaults = GenerationDefaults.read(backbone, family.usual(pipe.transformer.config))
    return PincoPipeline(pipe, loaded, defaults, controlnet=beside)


def _load_controlnet(folder: ControlNetFolder, family: PipelineFamily, **loading: Any) -> Any:
    loading["torch_dtype"] = loading.pop("dtype")
    controlnet, options = family.controlnet_class(), {**family.controlnet_options, **loading}
    return controlnet.from_pretrained(str(folder.path), use_safetensors=True, **options)
