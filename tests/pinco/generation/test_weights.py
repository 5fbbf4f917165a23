from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from pinco.generation import weights
from pinco.generation.settings import ModelSettings
from pinco.generation.weights import (
    CanvasSize,
    MissingWeightsError,
    cache_folder,
    canvas_size,
    find_weights,
    fingerprint_cache,
)
from pinco.pipelines.execution import ExecutionError
from pinco.pipelines.families import UnknownPipelineError
from pinco.weight_files import PickledWeightsError
from tests.pinco.pipelines.odd_pipeline import make_odd_pipe


def test_without_a_backbone_it_is_the_toy_with_all_that_belongs_to_it(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "assets", lambda: toy)
    found = find_weights(ModelSettings())
    assert found == weights.Weights("toy", str(toy / "backbone"), str(toy / "adapter"), str(toy / "segmenter"))
    assert canvas_size(ModelSettings()) == CanvasSize(128 * 128, 16)


def test_a_backbone_has_no_adapter_by_itself(toy: Path) -> None:
    found = find_weights(ModelSettings(backbone=str(toy / "backbone")))
    assert (found.adapter, found.segmenter) == (None, None)


@pytest.mark.parametrize(
    ("what", "way_out"),
    [
        ("backbone", "leave out --backbone for the built-in model"),
        ("adapter", "leave out --adapter for another method"),
        ("controlnet", "leave out --controlnet"),
        ("segmenter", r"leave out model\.segmenter for the backbone's own"),
    ],
)
def test_a_folder_that_is_not_there_is_said_with_the_way_out(
    toy: Path, tmp_path: Path, what: str, way_out: str
) -> None:
    folders = {"backbone": str(toy / "backbone"), what: str(tmp_path / "nowhere")}
    with pytest.raises(MissingWeightsError, match=rf"(?i)no {what} at \S*nowhere: name a folder .*, or {way_out}$"):
        find_weights(ModelSettings(**folders))


def test_without_an_own_backbone_the_way_out_is_the_built_in_adapter(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "assets", lambda: toy)
    with pytest.raises(MissingWeightsError, match="leave out --adapter for the built-in one"):
        find_weights(ModelSettings(adapter=str(tmp_path / "nowhere")))
    own = find_weights(ModelSettings(adapter=str(toy / "adapter"), segmenter=str(toy / "classifier")))
    assert (own.adapter, own.segmenter) == (str(toy / "adapter"), str(toy / "classifier"))


@pytest.fixture
def asked_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A hub that has nothing, and what it is asked for."""
    asked: list[str] = []

    def snapshot_download(name: str, **_: object) -> str:
        asked.append(name)
        raise LocalEntryNotFoundError("no snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    return asked


@pytest.mark.parametrize(
    "path", ["models/x", "./models/x", "../x", "/nowhere/x", "~/nowhere/x", "a/b/c", "x", ".hidden/x", "weights/"]
)
def test_what_looks_like_a_path_is_no_hub_id(asked_hub: list[str], path: str) -> None:
    with pytest.raises(MissingWeightsError, match=rf"no backbone at {re.escape(path)}") as raised:
        find_weights(ModelSettings(backbone=path))
    assert asked_hub == [] and "hub" not in str(raised.value)
    assert (f"(seen from {Path.cwd()})" in str(raised.value)) == (path[0] not in "/~")


def test_a_name_that_can_be_both_is_said_to_be_neither(asked_hub: list[str]) -> None:
    with pytest.raises(MissingWeightsError, match=r"at shop/x .*, neither as a folder nor on the hub or in its cache"):
        find_weights(ModelSettings(backbone="shop/x"))
    assert asked_hub == ["shop/x"]


def test_a_path_may_begin_at_the_home_folder(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(toy))
    assert find_weights(ModelSettings(backbone="~/backbone")).backbone == str(toy / "backbone")


def test_a_whole_model_is_its_backbone_and_its_adapter(toy: Path, tmp_path: Path) -> None:
    whole = find_weights(ModelSettings(backbone=str(toy)))
    assert whole == weights.Weights(str(toy), str(toy / "backbone"), str(toy / "adapter"), None)
    assert canvas_size(ModelSettings(backbone=str(toy))) == CanvasSize(128 * 128, 16)
    assert find_weights(ModelSettings(backbone=str(toy / "backbone"), adapter=str(toy))).adapter == whole.adapter
    other = tmp_path / "other"
    shutil.copytree(toy / "adapter", other)
    assert find_weights(ModelSettings(backbone=str(toy), adapter=str(other))).adapter == str(other)
    shutil.copytree(toy / "backbone", tmp_path / "alone" / "backbone")
    assert find_weights(ModelSettings(backbone=str(tmp_path / "alone"))).adapter is None


def test_a_folder_further_above_is_told_where_the_backbone_is(toy: Path, tmp_path: Path) -> None:
    """What `pinco toy train --out DIR` writes to lies one folder below DIR."""
    shutil.copytree(toy / "backbone", tmp_path / "toy" / "backbone")
    place = re.escape(str(tmp_path / "toy" / "backbone"))
    with pytest.raises(UnknownPipelineError, match=rf"no model_index\.json\. Name {place}$"):
        canvas_size(ModelSettings(backbone=str(tmp_path)))


@pytest.mark.parametrize("what", ["adapter", "segmenter"])
def test_pickled_weights_are_refused_while_planning(toy: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(PickledWeightsError, match=f"the {what} in "):
        find_weights(ModelSettings(**{"backbone": str(toy / "backbone"), what: str(tmp_path)}))


def test_a_hub_id_is_found_in_the_local_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--shop--backbone"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "pinco.json").write_text('{"working_pixels": 4096}')
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = find_weights(ModelSettings(backbone="shop/backbone"))
    assert Path(found.backbone) == snapshot and found.name == "shop/backbone"


def test_a_hub_id_that_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"no backbone at shop/nothing .*neither as a folder nor on the hub"):
        find_weights(ModelSettings(backbone="shop/nothing"))


def test_a_missing_toy_is_said_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "assets", lambda: tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="pinco toy train"):
        find_weights(ModelSettings())


def test_a_backbone_without_settings_has_its_familys(toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy / "backbone", tmp_path / "backbone")
    (tmp_path / "backbone" / "pinco.json").unlink()
    backbone = str(tmp_path / "backbone")
    assert canvas_size(ModelSettings(backbone=backbone)) == CanvasSize(1024 * 1024, 16)
    assert canvas_size(ModelSettings(backbone=backbone, working_pixels=4096)) == CanvasSize(4096, 16)


def test_a_backbone_that_was_copied_without_its_segmenter_is_told_while_planning(toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy / "backbone", tmp_path / "model" / "backbone")
    settings = ModelSettings(backbone=str(tmp_path / "model"))
    place = re.escape(str(tmp_path / "model" / "segmenter"))
    with pytest.raises(MissingWeightsError, match=rf"a segmenter, which is not at {place}: .*model\.segmenter"):
        canvas_size(settings)
    named = settings.model_copy(update={"segmenter": str(toy / "segmenter")})
    assert canvas_size(named) == CanvasSize(128 * 128, 16)


def test_another_family_has_another_multiple(tmp_path: Path) -> None:
    make_odd_pipe().save_pretrained(tmp_path)
    assert canvas_size(ModelSettings(backbone=str(tmp_path))) == CanvasSize(64 * 64, 8)


def test_a_backbone_that_cannot_be_run_is_refused_while_planning(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableAudioPipeline"}')
    with pytest.raises(UnknownPipelineError, match="holds a StableAudioPipeline"):
        canvas_size(ModelSettings(backbone=str(tmp_path), working_pixels=4096))


def test_the_cache_follows_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "pinco"
    assert fingerprint_cache().parent == cache_folder()


def test_a_way_to_compute_that_the_backbone_does_not_have_is_refused_while_planning(tmp_path: Path) -> None:
    make_odd_pipe().save_pretrained(tmp_path)
    with pytest.raises(ExecutionError, match=r"model\.cache: first_block is not there"):
        canvas_size(ModelSettings(backbone=str(tmp_path), cache="first_block"))
    assert canvas_size(ModelSettings(backbone=str(tmp_path), preset="fast")).multiple == 8
