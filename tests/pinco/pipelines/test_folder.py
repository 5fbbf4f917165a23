from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pinco.pipelines.execution import Choice, Execution, ExecutionError
from pinco.pipelines.families import UnknownPipelineError, UnsupportedBackboneError
from pinco.pipelines.folder import BackboneFolder, RemoteCodeError
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


@pytest.mark.parametrize("whole", [True, False])
def test_code_that_comes_with_the_weights_is_refused(
    new_pipe: Callable[[str], Any], tmp_path: Path, whole: bool
) -> None:
    new_pipe("flux").save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    if whole:
        index["_class_name"] = ["own_pipeline", "OwnPipeline"]
    else:
        index["transformer"] = ["own_model", "OwnTransformer"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    mark = tmp_path / "was_run"
    for folder, name in ((tmp_path, "own_pipeline"), (tmp_path / "transformer", "own_model")):
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    message = "OwnPipeline of own_pipeline" if whole else "OwnTransformer of transformer/own_model.py"
    for read in (BackboneFolder, load_pipeline):
        with pytest.raises(RemoteCodeError, match=f"{message}: program code .* never run. Name a backbone whose"):
            read(tmp_path)
    assert not mark.exists()


def test_variants_that_do_not_belong_together_are_refused(new_pipe: Callable[[str], Any], tmp_path: Path) -> None:
    new_pipe("flux").save_pretrained(tmp_path)
    assert BackboneFolder(tmp_path).variant is None
    for part, variant in (("vae", "fp16"), ("transformer", "bf16")):
        (file,) = (tmp_path / part).glob("*.safetensors")
        file.rename(file.with_name(f"{file.stem}.{variant}.safetensors"))
    with pytest.raises(UnsupportedBackboneError, match=r"transformer only as bf16, vae only as fp16: fetch the files"):
        assert BackboneFolder(tmp_path).variant


def test_what_the_family_does_not_have_is_refused_while_planning(
    new_pipe: Callable[[str], Any], tmp_path: Path
) -> None:
    new_pipe("flux").save_pretrained(tmp_path / "one")
    new_pipe("hunyuan").save_pretrained(tmp_path / "other")
    cached = Choice(cache="first_block")
    assert BackboneFolder(tmp_path / "one").choose(cached, accelerator=False) == Execution(cache="first_block")
    other = BackboneFolder(tmp_path / "other")
    with pytest.raises(ExecutionError, match="set it to none"):
        other.choose(cached, accelerator=True)
    with pytest.raises(ExecutionError, match="set it to offload_model"):
        other.choose(Choice(placement="offload_sequential"), accelerator=True)
    assert other.choose(Choice(preset="fast"), accelerator=True) == Execution(compile=True)
