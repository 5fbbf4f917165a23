from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pinco.generation import fingerprint
from pinco.generation.fingerprint import folder_sha256

GOLDEN = "51afb97ebd5a49e8595e34ccbf3fa2af40e36de429c5eb00fa702d3e5c02bf71"
TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


def _model(folder: Path) -> Path:
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline", "_diffusers_version": "0.42.1"}')
    (folder / "transformer" / "config.json").write_text('{"heads": 2, "layers": [1, 2]}')
    (folder / "vocab.txt").write_text("a\nb\n")
    save_file(TENSORS, folder / "transformer" / "model.safetensors")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return _model(tmp_path / "model")


def test_the_fingerprint_is_stable_across_releases(model: Path) -> None:
    """Changing it would give every image a new generation id: bump `VERSION` then, and this value with it."""
    assert folder_sha256(model) == GOLDEN


def test_it_does_not_depend_on_where_and_when(model: Path, tmp_path: Path) -> None:
    assert folder_sha256(_model(tmp_path / "elsewhere")) == folder_sha256(model)


def test_what_decides_nothing_does_not_count(model: Path) -> None:
    before = folder_sha256(model)
    (model / "README.md").write_text("a card")
    (model / "pinco.json").write_text('{"steps": 3}')
    (model / ".cache").mkdir()
    (model / ".cache" / "x.json").write_text("{}")
    (model / "transformer" / "config.json").write_text('{"layers": [1,2],\n "heads": 2, "_name_or_path": "here"}')
    (model / "model_index.json").write_text('{"_diffusers_version": "9", "_class_name": "FluxPipeline"}')
    assert folder_sha256(model) == before


def test_sharding_and_metadata_do_not_count(model: Path) -> None:
    before = folder_sha256(model)
    folder = model / "transformer"
    (folder / "model.safetensors").unlink()
    for number, name in enumerate(reversed(list(TENSORS))):
        save_file({name: TENSORS[name]}, folder / f"model-{number}.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text("{}")
    assert folder_sha256(model) == before


def test_every_value_counts(model: Path) -> None:
    seen = {folder_sha256(model)}
    weights = model / "transformer" / "model.safetensors"
    for tensors in (
        TENSORS | {"a": TENSORS["a"] + 1e-7},
        TENSORS | {"a": TENSORS["a"].T.contiguous()},
        TENSORS | {"b": TENSORS["b"].to(torch.float16)},
        {"a": TENSORS["a"], "c": TENSORS["b"]},
    ):
        save_file(tensors, weights)
        seen.add(folder_sha256(model))
    (model / "transformer" / "config.json").write_text('{"heads": 2, "layers": [2, 1]}')
    seen.add(folder_sha256(model))
    (model / "vocab.txt").write_text("b\na\n")
    seen.add(folder_sha256(model))
    assert len(seen) == 7


def test_unchanged_files_are_not_read_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache" / "hashes.json"
    first = folder_sha256(model, cache)
    read: list[str] = []
    for name in ("_file_hash", "_tensor_hashes"):
        original = getattr(fingerprint, name)
        monkeypatch.setattr(
            fingerprint, name, lambda file, original=original: (read.append(file.name), original(file))[1]
        )
    assert folder_sha256(model, cache) == first and read == []
    (model / "vocab.txt").write_text("c\nd\n")
    os.utime(model / "vocab.txt", ns=(1, 1))
    assert folder_sha256(model, cache) != first and read == ["vocab.txt"]
    assert folder_sha256(model, cache) == folder_sha256(model)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"x": 3}'])
def test_a_damaged_cache_is_made_again(model: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "hashes.json"
    wanted = folder_sha256(model, cache)
    entries = json.loads(cache.read_text())
    cache.write_text(damage or json.dumps(dict.fromkeys(entries, "nonsense")))
    assert folder_sha256(model, cache) == wanted


def test_a_cache_that_cannot_be_written_does_no_harm(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert folder_sha256(model, tmp_path / "file" / "hashes.json") == folder_sha256(model)


def test_a_single_file_has_a_fingerprint(model: Path) -> None:
    assert folder_sha256(model / "transformer" / "model.safetensors") != folder_sha256(model)


def test_errors_name_the_file(model: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no model at"):
        folder_sha256(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no model"):
        folder_sha256(tmp_path / "empty")
    weights = model / "transformer" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        folder_sha256(model)
    weights.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00nonsense")
    with pytest.raises(ValueError, match=r"model\.safetensors is no valid safetensors"):
        folder_sha256(model)
    weights.write_bytes(whole)
    (model / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is no valid JSON"):
        folder_sha256(model)
    (model / "config.json").unlink()
    (model / "extra.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="may be a pickle"):
        folder_sha256(model)


def test_weights_beside_a_pipeline_that_it_does_not_load_do_not_count(model: Path) -> None:
    """So a snapshot of a whole repository is the same backbone as the files of its pipeline."""
    before = folder_sha256(model)
    save_file({"a": torch.ones(3)}, model / "single-file.safetensors")
    save_file({"a": torch.ones(3, dtype=torch.float16)}, model / "transformer" / "model.fp16.safetensors")
    assert folder_sha256(model) == before
    (model / "transformer" / "model.safetensors").unlink()
    assert folder_sha256(model) != before, "now the variant is loaded"


def test_pieces_of_large_tensors_are_put_together_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = folder_sha256(model)
    monkeypatch.setattr(fingerprint, "_CHUNK", 5)
    monkeypatch.setattr(fingerprint, "_THREADS", 3)
    assert folder_sha256(model) == whole


BOTH_AT_ONCE = """
import sys, time
from pathlib import Path
from pinco.generation import fingerprint

model, meeting, me, other = (Path(word) for word in sys.argv[1:])
hashes = fingerprint._tensor_hashes

def slow(file):
    with (meeting / "hashed").open("a") as notes:
        notes.write(file.name + "\\n")
    time.sleep(0.5)
    return hashes(file)

fingerprint._tensor_hashes = slow
(meeting / me).touch()
while not (meeting / other).exists():
    time.sleep(0.01)
print(fingerprint.folder_sha256(model, meeting / "cache" / "hashes.json"))
"""


def test_of_processes_that_start_at_once_one_reads_the_weights(model: Path, tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BOTH_AT_ONCE, str(model), str(tmp_path), me, other],
            stdout=subprocess.PIPE,
            text=True,
        )
        for me, other in (("one", "two"), ("two", "one"))
    ]
    said = {process.communicate(timeout=60)[0].strip() for process in started}
    assert said == {folder_sha256(model)}
    assert (tmp_path / "hashed").read_text() == "model.safetensors\n"
