from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pinco.generation import weights
from pinco.generation.settings import ModelSettings
from pinco.generation.weights import CanvasSize, cache_folder, canvas_size, find_weights, fingerprint_cache
from pinco.pipelines.families import UnknownPipelineError
from tests.pinco.pipelines.odd_pipeline import make_odd_pipe


def test_without_a_backbone_it_is_the_toy_with_all_that_belongs_to_it(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "assets", lambda: toy)
    found = find_weights(ModelSettings())
    assert found == weights.Weights("toy", str(toy / "backbone"), str(toy / "adapter"), str(toy / "segmenter"))
    assert canvas_size(ModelSettings()) == CanvasSize(128 * 128, 16)


def test_a_backbone_without_an_adapter_is_bare(toy: Path) -> None:
    found = find_weights(ModelSettings(backbone=str(toy / "backbone")))
    assert (found.adapter, found.segmenter) == (None, None)


@pytest.mark.parametrize("what", ["backbone", "adapter", "segmenter"])
def test_a_folder_that_is_not_there_is_said_with_the_way_out(toy: Path, tmp_path: Path, what: str) -> None:
    folders = {"backbone": str(toy / "backbone"), what: str(tmp_path / "nowhere")}
    with pytest.raises(FileNotFoundError, match=f"no {what} at .*nowhere"):
        find_weights(ModelSettings(**folders))


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
    with pytest.raises(FileNotFoundError, match="no backbone at shop/nothing, neither as a folder nor as a hub id"):
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
