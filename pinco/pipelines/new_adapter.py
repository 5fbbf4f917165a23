"""A new adapter for a backbone that lies in a folder; of the backbone only the transformer is read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import safe_open

from pinco.adapter import PincoAdapter
from pinco.adapter.choice import Layers, Rank, adapter_config
from pinco.pipelines.families import UnsupportedBackboneError
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.progress import no_progress_bars

_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16}


def new_adapter(backbone: str | Path, *, layers: Layers = "all", rank: Rank = "auto") -> PincoAdapter:
    """An adapter that starts from the backbone's own projections, with its gates at zero.

    Args:
        backbone: Folder of a diffusers pipeline.
        layers: As for `PincoAdapter.for_backbone`.
        rank: As for `PincoAdapter.for_backbone`.

    Raises:
        UnknownPipelineError: The folder holds something that Pinco cannot run.
        UnsupportedBackboneError: The backbone inpaints by itself and takes no adapter.
        PickledWeightsError: Weights are stored as a pickle.
        ValueError: Layers or a rank that the backbone does not have.
    """
    folder = BackboneFolder(backbone)
    weightless_adapter(backbone, layers=layers, rank=rank)  # says what is wrong before gigabytes are read
    with no_progress_bars():
        transformer = _transformer_class(folder).from_pretrained(
            folder.path / "transformer", use_safetensors=True, dtype=_stored_dtype(folder.path / "transformer")
        )
    adapter: PincoAdapter = PincoAdapter.for_backbone(
        transformer, folder.config("vae"), layers=layers, rank=rank
    ).float()
    return adapter


def weightless_adapter(backbone: str | Path, *, layers: Layers = "all", rank: Rank = "auto") -> PincoAdapter:
    """The same adapter on the meta device: its sizes, without reading a weight.

    Args:
        backbone: Folder of a diffusers pipeline; its configurations are enough.
        layers: As for `PincoAdapter.for_backbone`.
        rank: As for `PincoAdapter.for_backbone`.

    Raises:
        UnknownPipelineError: The folder holds something that Pinco cannot run.
        UnsupportedBackboneError: The backbone inpaints by itself and takes no adapter.
        ValueError: Layers or a rank that the backbone does not have.
    """
    folder = BackboneFolder(backbone)
    if not folder.family.text_to_image:
        raise UnsupportedBackboneError(
            f"the {folder.pipeline} in {folder.path} takes no adapter, because it is told of the product by itself. "
            "Name a text-to-image backbone, or use this one without an adapter, by the method fill"
        )
    with torch.device("meta"):
        transformer = _transformer_class(folder).from_config(folder.config("transformer"))
        adapter: PincoAdapter = PincoAdapter(
            **adapter_config(transformer, folder.config("vae"), layers=layers, rank=rank)
        )
    return adapter


def _transformer_class(folder: BackboneFolder) -> Any:
    """Of diffusers, or of the package that registered a family of its own and therefore is imported already."""
    library, name = folder.part_class("transformer")
    return getattr(diffusers if library == "diffusers" else sys.modules[library], name)


def _stored_dtype(folder: Path) -> torch.dtype:
    """The dtype of the first tensor of the first file: half precision stays what it is, the rest is read in float32."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (no mapping)
                return _DTYPES.get(tensors.get_slice(name).get_dtype(), torch.float32)
    return torch.float32
