"""Weights are never unpickled: refused with a sentence first, and not opened even without that check."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pinco.adapter import PincoAdapter
from pinco.evaluation.segmenter import Segmenter
from pinco.pipelines.loading import load_pipeline
from pinco.toy.model.instruments import PlaceClassifier
from pinco.weight_files import (
    PICKLES,
    PickledWeightsError,
    files_of_weights,
    loaded_variant,
    refuse_pickles,
    variant_of,
)

LOADERS: dict[str, Callable[[Path], Any]] = {
    "backbone/transformer": lambda toy: load_pipeline(toy / "backbone"),
    "backbone/vae": lambda toy: load_pipeline(toy / "backbone"),
    "backbone/text_encoder": lambda toy: load_pipeline(toy / "backbone"),
    "backbone/text_encoder_2": lambda toy: load_pipeline(toy / "backbone"),
    "adapter": lambda toy: load_pipeline(toy / "backbone", toy / "adapter"),
    "segmenter": lambda toy: Segmenter.from_pretrained(toy / "segmenter"),
    "classifier": lambda toy: PlaceClassifier.from_pretrained(toy / "classifier"),
}
SAID = {"adapter": "PincoAdapter", "segmenter": "Segmenter", "classifier": "PlaceClassifier"}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that torch is asked to unpickle."""
    files: list[str] = []
    load = torch.load

    def watch(file: Any, *args: Any, **options: Any) -> Any:
        files.append(str(file))
        return load(file, *args, **options)

    monkeypatch.setattr(torch, "load", watch)
    return files


@pytest.fixture(params=LOADERS)
def pickled(request: pytest.FixtureRequest, toy: Path, tmp_path: Path) -> tuple[str, Path]:
    """A toy whose weights of one component are a pickle, and nothing else."""
    component: str = request.param
    shutil.copytree(toy, tmp_path / "toy")
    _pickle(tmp_path / "toy" / component)
    return component, tmp_path / "toy"


def _pickle(folder: Path) -> Path:
    (safe,) = folder.glob("*.safetensors")
    name = "pytorch_model.bin" if safe.stem == "model" else f"{safe.stem}.bin"
    torch.save(load_file(safe), folder / name)
    safe.unlink()
    return folder / name


def test_a_pickle_is_refused_naming_component_and_way_out(pickled: tuple[str, Path], opened: list[str]) -> None:
    component, toy = pickled
    name = SAID.get(component, f"backbone's {component.rpartition('/')[2]}")
    with pytest.raises(PickledWeightsError, match=rf"the {name} in \S*{component} .*\.bin, which .*save_pretrained"):
        LOADERS[component](toy)
    assert opened == []


def test_without_the_check_a_pickle_is_not_opened_either(
    pickled: tuple[str, Path], opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    component, toy = pickled
    monkeypatch.setattr("pinco.weight_files.refuse_pickles", lambda *_: None)
    monkeypatch.setattr("pinco.pipelines.folder.refuse_pickles", lambda *_: None)
    with pytest.raises(OSError):
        LOADERS[component](toy)
    assert opened == []


def test_nobody_can_ask_for_pickles(toy: Path, tmp_path: Path, opened: list[str]) -> None:
    shutil.copytree(toy / "adapter", tmp_path / "adapter")
    file = _pickle(tmp_path / "adapter")
    for folder in (tmp_path / "adapter", str(tmp_path / "adapter")):
        with pytest.raises(PickledWeightsError, match=file.name):
            PincoAdapter.from_pretrained(folder, use_safetensors=False)
    assert opened == []


@pytest.mark.parametrize("suffix", sorted(PICKLES))
def test_every_kind_of_pickle_is_known_by_its_suffix(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"")
    with pytest.raises(PickledWeightsError, match=rf"the vae in .* has its weights in model\{suffix}"):
        refuse_pickles(tmp_path, "vae")


def test_safetensors_beside_a_pickle_are_loaded(toy: Path, tmp_path: Path, opened: list[str]) -> None:
    shutil.copytree(toy / "segmenter", tmp_path / "segmenter")
    (tmp_path / "segmenter" / "diffusion_pytorch_model.bin").write_bytes(b"not even a pickle")
    assert Segmenter.from_pretrained(tmp_path / "segmenter") is not None
    assert opened == []


def test_an_index_of_safetensors_names_no_pickle(toy: Path, tmp_path: Path, opened: list[str]) -> None:
    """diffusers opens the shards that an index names by their own suffix."""
    folder = tmp_path / "segmenter"
    shutil.copytree(toy / "segmenter", folder)
    (safe,) = folder.glob("*.safetensors")
    names = list(load_file(safe))
    pickle = _pickle(folder).rename(folder / "shard.bin")
    (folder / "other.safetensors").write_bytes(b"")
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, pickle.name)}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PickledWeightsError, match="shard"):
        Segmenter.from_pretrained(folder)
    assert opened == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": "x.safetensors"}}'])
def test_an_index_without_pickles_passes(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    refuse_pickles(tmp_path, "vae")


def test_what_is_no_folder_passes() -> None:
    refuse_pickles("shop/backbone", "backbone")


def test_it_starts_without_torch() -> None:
    code = "import sys, pinco.weight_files; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("diffusion_pytorch_model.safetensors", None),
        ("model-00001-of-00002.safetensors", None),
        ("diffusion_pytorch_model.fp16.safetensors", "fp16"),
        ("diffusion_pytorch_model.bf16-00002-of-00003.safetensors", "bf16"),
        ("model-00001-of-00002.fp16.safetensors", "fp16"),
        ("config.json", None),
    ],
)
def test_the_variant_is_in_the_name(name: str, variant: str | None) -> None:
    assert variant_of(name) == variant


def test_of_several_variants_one_is_loaded(tmp_path: Path) -> None:
    both = ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"]
    for name in (*both, "model.non_ema.safetensors", "config.json"):
        (tmp_path / name).touch()
    assert [file.name for file in files_of_weights(tmp_path)] == both
    (tmp_path / "model.safetensors").touch()
    assert [file.name for file in files_of_weights(tmp_path)] == ["model.safetensors"]
    assert loaded_variant(["README.md"]) is None
