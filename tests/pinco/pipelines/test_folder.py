from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pinco.pipelines.families import UnknownPipelineError, UnsupportedBackboneError
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.pipeline import PincoPipeline


@pytest.fixture
def folder(pipe: Any, tmp_path: Path) -> Path:
    pipe.save_pretrained(tmp_path)
    return tmp_path


def test_it_says_without_loading_what_the_pipeline_says(pipe: Any, folder: Path) -> None:
    loaded, read = PincoPipeline(pipe), BackboneFolder(folder)
    assert read.family is loaded.family
    assert read.defaults == loaded.defaults
    assert read.size_multiple == loaded.dims.token_stride
    (folder / "pinco.json").write_text('{"working_pixels": 4096}')
    assert read.defaults.working_pixels == 4096


def test_a_folder_without_a_pipeline_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UnknownPipelineError, match=r"there is no model_index\.json\. Name the folder"):
        BackboneFolder(tmp_path)


def test_an_unknown_pipeline_is_refused_naming_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableAudioPipeline"}))
    with pytest.raises(UnknownPipelineError, match=r"holds a StableAudioPipeline; Pinco can run .*Pipeline"):
        BackboneFolder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"), [("model_index.json", "{"), ("model_index.json", "[]"), ("vae/config.json", None)]
)
def test_a_damaged_folder_names_the_file(folder: Path, name: str, content: str | None) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(UnknownPipelineError, match=f"{name} .*fetch the backbone's folder again"):
        assert BackboneFolder(folder).size_multiple


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("FluxControlPipeline", "takes edges or depth in channels of its own"),
        ("FluxKontextPipeline", "edits a reference image by instruction"),
    ],
)
def test_pipelines_of_the_same_maker_that_take_an_image_are_refused_with_the_way_out(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(UnsupportedBackboneError, match=rf"{name}, which {reason}.* FLUX\.1-dev or FLUX\.1-schnell"):
        BackboneFolder(tmp_path)


@pytest.mark.parametrize("channels", [384, 128])
def test_weights_that_take_an_image_are_refused_whatever_the_pipeline_is_called(
    new_pipe: Callable[[str], Any], tmp_path: Path, channels: int
) -> None:
    """A Fill or Control checkpoint that was saved by a `FluxPipeline`."""
    new_pipe("flux").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "transformer" / "config.json").read_text())
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(config | {"in_channels": channels}))
    message = rf"the FluxPipeline in .* takes {channels} channels where latents have 64.* FLUX\.1-dev or FLUX\.1-sch"
    for read in (BackboneFolder, load_pipeline):
        with pytest.raises(UnsupportedBackboneError, match=message):
            read(tmp_path)
