from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pinco.adapter import PincoAdapter
from pinco.pipelines.families import UnsupportedBackboneError
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.new_adapter import new_adapter, weightless_adapter
from tests.families.inpainting import new_fill


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_starts_as_an_adapter_made_for_the_loaded_backbone(pipe: Any, tmp_path: Path, dtype: str) -> None:
    pipe.save_pretrained(tmp_path / "float32")
    loaded = load_pipeline(tmp_path / "float32", dtype=dtype).pipe
    loaded.save_pretrained(tmp_path / dtype)
    torch.manual_seed(3)
    made = new_adapter(tmp_path / dtype, layers=(0,))
    torch.manual_seed(3)
    wanted = PincoAdapter.for_backbone(loaded.transformer, loaded.vae.config, layers=(0,))
    assert made.settings == wanted.settings and made.dtype == torch.float32
    for name, tensor in wanted.state_dict().items():
        if "shape_conv" not in name and "extractor.input" not in name:  # random: not read from the backbone
            torch.testing.assert_close(made.state_dict()[name], tensor.float(), msg=name)
    assert all(not gate.any() for gate in made.gates().values())


def test_its_sizes_need_no_weights(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    wanted = new_adapter(tmp_path, rank=2)
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    bare = weightless_adapter(tmp_path, rank=2)
    assert bare.settings == wanted.settings and bare.device == torch.device("meta")


def test_a_wrong_choice_is_said_before_weights_are_read(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    for weights in tmp_path.rglob("transformer/*.safetensors"):
        weights.write_bytes(b"")
    with pytest.raises(ValueError, match="or layer numbers, not 'attic'"):
        new_adapter(tmp_path, layers="attic")


def test_the_folder_gives_its_parts_configurations(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    assert BackboneFolder(tmp_path).config("vae") == json.loads((tmp_path / "vae" / "config.json").read_text())


def test_a_backbone_that_inpaints_by_itself_takes_no_adapter(tmp_path: Path) -> None:
    new_fill().save_pretrained(tmp_path)
    for make in (new_adapter, weightless_adapter):
        with pytest.raises(UnsupportedBackboneError, match=r"FluxFillPipeline in .* takes no adapter.*method fill"):
            make(tmp_path)
