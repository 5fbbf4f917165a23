from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxControlNetModel

from pinco.pipelines.controlnet_folder import ControlNetError, ControlNetFolder
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.loading import load_pipeline
from pinco.weight_files import PickledWeightsError
from tests.families import hunyuan, inpainting, sd3


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("backbones")
    for name, pipe in (("flux", inpainting.new_flux()), ("sd3", sd3.new_pipe()), ("hunyuan", hunyuan.new_pipe())):
        pipe.save_pretrained(folder / name)
    return {name: folder / name for name in ("flux", "sd3", "hunyuan")}


def _saved(controlnet: Any, folder: Path) -> Path:
    controlnet.save_pretrained(folder)
    return folder


def test_it_says_what_is_in_the_folder_without_loading_it(backbones: dict[str, Path], tmp_path: Path) -> None:
    controlnet = inpainting.new_sd3_controlnet()
    read = ControlNetFolder(_saved(controlnet, tmp_path), BackboneFolder(backbones["sd3"]))
    assert read.config["extra_conditioning_channels"] == 1
    assert read.shapes == {name: tuple(tensor.shape) for name, tensor in controlnet.state_dict().items()}


def test_one_that_was_made_for_edges_or_depth_is_refused(backbones: dict[str, Path], tmp_path: Path) -> None:
    """The most common ones: they have no channels for a mask."""
    flux = inpainting.new_flux()
    config = {**inpainting.new_flux_controlnet(flux).config}
    del config["extra_condition_channels"]
    plain = _saved(FluxControlNetModel.from_config(config), tmp_path / "flux")
    unsure = _saved(inpainting.new_sd3_controlnet(extra_conditioning_channels=0), tmp_path / "sd3")
    for kind, folder, name in (
        ("flux", plain, "FLUX.1-dev-Controlnet-Inpainting-Beta"),
        ("sd3", unsure, "SD3-Controlnet-Inpainting"),
    ):
        with pytest.raises(ControlNetError, match=rf"not made for inpainting.*{name}"):
            load_pipeline(backbones[kind], controlnet=folder)


def test_one_of_another_family_or_size_is_refused(backbones: dict[str, Path], tmp_path: Path) -> None:
    folder = _saved(inpainting.new_sd3_controlnet(), tmp_path / "sd3")
    with pytest.raises(ControlNetError, match=r"holds a SD3ControlNetModel, and the backbone .* FluxControlNetModel"):
        ControlNetFolder(folder, BackboneFolder(backbones["flux"]))
    with pytest.raises(ControlNetError, match=r"a HunyuanDiTPipeline cannot be used with .*made for edges.*Leave out"):
        ControlNetFolder(folder, BackboneFolder(backbones["hunyuan"]))
    wide = inpainting.new_flux_controlnet(inpainting.new_flux(), num_attention_heads=4)
    with pytest.raises(ControlNetError, match="image and text tokens are 64 and 96 wide, the backbone's 32 and 96"):
        ControlNetFolder(_saved(wide, tmp_path / "wide"), BackboneFolder(backbones["flux"]))


def test_pickles_are_refused_before_they_are_opened(backbones: dict[str, Path], tmp_path: Path) -> None:
    folder = _saved(inpainting.new_sd3_controlnet(), tmp_path)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(PickledWeightsError, match=r"the ControlNet in .* may be a pickle"):
        load_pipeline(backbones["sd3"], controlnet=folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"holds no ControlNet: config\.json cannot be read"),
        ("config.json", b"[]", "must hold one JSON object"),
        ("diffusion_pytorch_model.safetensors", None, r"has no weights in \.safetensors"),
        ("diffusion_pytorch_model.safetensors", b"", "is damaged"),
        ("diffusion_pytorch_model.safetensors", struct.pack("<Q", 2**63) + b"{}", "is damaged"),
        ("diffusion_pytorch_model.safetensors", struct.pack("<Q", 7) + b'{"a":1}', "is damaged"),
    ],
)
def test_a_damaged_folder_names_the_file(
    backbones: dict[str, Path], tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    folder = _saved(inpainting.new_sd3_controlnet(), tmp_path)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ControlNetError, match=message):
        ControlNetFolder(folder, BackboneFolder(backbones["sd3"]))


def test_a_configuration_without_what_is_compared_is_refused(backbones: dict[str, Path], tmp_path: Path) -> None:
    folder = _saved(inpainting.new_sd3_controlnet(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["num_attention_heads"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ControlNetError, match=r"config[.]json lacks 'num_attention_heads'"):
        ControlNetFolder(folder, BackboneFolder(backbones["sd3"]))
