from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pinco.adapter import PincoAdapter
from pinco.pipelines.execution import PLAIN, Execution
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.memory import KEPT_CANVAS_BYTES, ModelBytes, model_bytes, place_weights
from tests.families.inpainting import new_sd3_controlnet
from tests.families.sd3 import new_pipe as new_sd3

GIB = 1 << 30
LARGE = ModelBytes(text=9 * GIB, transformer=22 * GIB, rest=GIB, adapter=2 * GIB, work=4 * GIB)
"""About a backbone of 12 billion parameters in bfloat16."""


@pytest.mark.parametrize(
    ("free", "name", "swap"),
    [
        (80, "resident", False),
        (41, "resident", False),
        (39, "offload_text", True),
        (31, "offload_text", True),
        (30, "offload_model", True),
        (24, "offload_sequential", True),
    ],
)
def test_the_first_placement_that_fits_is_taken(free: int, name: str, swap: bool) -> None:
    placed = place_weights(PLAIN, LARGE, free * GIB, accelerator=True)
    assert (placed.name, placed.swap) == (name, swap)
    assert placed.line == f"placement: {name} (34.0 GiB of weights, about 4.0 GiB of work, {free}.0 GiB free)"


@pytest.mark.parametrize(
    ("free", "name"), [(41, "offload_text"), (44, "resident"), (35, "offload_text"), (31, "offload_model")]
)
def test_a_decode_beside_the_sampling_counts_where_both_run(free: int, name: str) -> None:
    """Not where components move, nor on a CPU, which decode before they sample again."""
    beside = replace(LARGE, beside=2 * GIB)
    assert beside.needed("offload_model") == LARGE.needed("offload_model")
    placed = place_weights(PLAIN, beside, free * GIB, accelerator=True)
    assert placed.name == name and "about 6.0 GiB of work" in placed.line
    assert "about 4.0 GiB of work" in place_weights(PLAIN, beside, free * GIB, accelerator=False).line


@pytest.mark.parametrize("other", [{"quantise": "int8"}, {"compile": True}])
def test_what_excludes_single_layers_is_respected_and_shortage_is_said(other: Any) -> None:
    placed = place_weights(Execution(**other), LARGE, 8 * GIB, accelerator=True)
    assert placed.name == "offload_model" and "memory is short, model.quantise: int8 takes half" in placed.line


def test_a_backbone_whose_layers_cannot_move_alone_moves_as_a_whole() -> None:
    assert place_weights(PLAIN, LARGE, 24 * GIB, accelerator=True, single_layers=False).name == "offload_model"


def test_what_is_set_is_taken_whatever_fits() -> None:
    placed = place_weights(Execution(placement="offload_text"), LARGE, 80 * GIB, accelerator=True)
    assert (placed.name, placed.swap) == ("offload_text", False) and "as set" in placed.line
    assert place_weights(Execution(placement="offload_text"), LARGE, 30 * GIB, accelerator=True).swap


@pytest.mark.parametrize("execution", [PLAIN, Execution(placement="offload_model")])
def test_the_cpu_has_nowhere_else(execution: Execution) -> None:
    assert place_weights(execution, LARGE, 64 * GIB, accelerator=False).name == "resident"
    short = place_weights(execution, LARGE, 16 * GIB, accelerator=False)
    assert short.name == "resident" and "memory is short, model.dtype: bfloat16" in short.line


def _size(folder: Path, adapter: Path | None = None, **other: Any) -> ModelBytes:
    return model_bytes(folder, adapter, **{"dtype": "bfloat16", "pixels": 64 * 64, "token_pixels": 16} | other)


def _parameters(*parts: Any) -> int:
    """Numbers that are saved: tied weights once."""
    tensors = {tensor.data_ptr(): tensor for part in parts for tensor in part.state_dict().values()}
    return sum(tensor.numel() for tensor in tensors.values())


def test_weights_are_counted_from_the_files(pipe: Any, adapter: PincoAdapter, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "backbone")
    adapter.save_pretrained(tmp_path / "adapter")
    stride = BackboneFolder(tmp_path / "backbone").size_multiple
    size = _size(tmp_path / "backbone", tmp_path / "adapter", token_pixels=stride)
    encoders = [part for name, part in pipe.components.items() if name.startswith("text_encoder") and part is not None]
    assert size.transformer == 2 * _parameters(pipe.transformer)
    assert size.adapter == 2 * _parameters(adapter)
    assert size.text == 2 * _parameters(*encoders)
    assert size.rest == 2 * _parameters(pipe.vae)
    assert size.work > 0


def test_numbers_and_sizes_count(new_pipe: Callable[[str], Any], tmp_path: Path) -> None:
    new_pipe("flux").save_pretrained(tmp_path)
    half = _size(tmp_path)
    assert _size(tmp_path, dtype="float32").transformer == 2 * half.transformer
    small = Execution(quantise="int8")
    for dtype in ("bfloat16", "float32"):
        assert 0.5 < _size(tmp_path, execution=small, dtype=dtype).transformer / half.transformer < 0.55
    assert half.beside == min(64 * 64 * 8 * 10 * 2, 16 * 32 * 24 * 2)
    assert _size(tmp_path, pixels=1024 * 1024).work > 100 * half.work
    assert _size(tmp_path, execution=Execution(cache="taylor")).work == half.work + 2 * 2 * 16 * 32 * 2


def test_a_variant_beside_the_weights_is_not_counted_twice(new_pipe: Callable[[str], Any], tmp_path: Path) -> None:
    pipe = new_pipe("flux")
    pipe.save_pretrained(tmp_path)
    alone = _size(tmp_path)
    pipe.transformer.to(torch.float16).save_pretrained(tmp_path / "transformer", variant="fp16")
    assert _size(tmp_path) == alone


def test_kept_canvases_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"layers": ' + str(list(range(57))) + ', "inner_dim": 3072}')
    empty = tmp_path / "backbone"
    empty.mkdir()
    canvas = 2 * 57 * 4096 * 3072 * 2
    work = _size(empty, tmp_path, pixels=1024 * 1024).work - _size(empty, pixels=1024 * 1024).work
    assert canvas < work <= KEPT_CANVAS_BYTES, "more than one of 2.9 GB, not eight"


def test_a_controlnet_is_counted_beside_the_adapter(tmp_path: Path) -> None:
    controlnet = new_sd3_controlnet()
    controlnet.save_pretrained(tmp_path / "controlnet")
    new_sd3().save_pretrained(tmp_path / "backbone")
    with_one = _size(tmp_path / "backbone", controlnet=tmp_path / "controlnet")
    assert with_one.adapter == 2 * _parameters(controlnet)
    assert _size(tmp_path / "backbone").adapter == 0
