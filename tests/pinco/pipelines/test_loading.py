"""What loading a pipeline from folders promises, on tiny random backbones of two very different families."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pinco.adapter import BackboneMismatchError, PincoAdapter
from pinco.pipelines.execution import Execution, ExecutionError
from pinco.pipelines.families import UnknownPipelineError
from pinco.pipelines.folder import BackboneFolder
from pinco.pipelines.loading import ALIGNMENT, load_pipeline
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas

MakeCanvas = Callable[..., Canvas]
PROMPT = "a bottle on grass"


@pytest.fixture
def folders(pipe: Any, adapter: PincoAdapter, tmp_path: Path) -> tuple[Path, Path]:
    pipe.save_pretrained(tmp_path / "backbone")
    adapter.save_pretrained(tmp_path / "adapter")
    return tmp_path / "backbone", tmp_path / "adapter"


def test_from_folders_it_makes_the_same_image_without_a_progress_bar(
    pipe: Any,
    adapter: PincoAdapter,
    folders: tuple[Path, Path],
    make_canvas: MakeCanvas,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pinco = PincoPipeline(pipe, adapter)
    request = pinco.defaults.request("in snow", seed=1, negative="night", steps=2, true_cfg=2.0)
    wanted = pinco.generate(pinco.encode_canvas(make_canvas()), [request])[0]
    capfd.readouterr()
    loaded, again = load_pipeline(*folders), load_pipeline(*folders)
    image, second = (each.generate(each.encode_canvas(make_canvas()), [request])[0] for each in (loaded, again))
    assert np.array_equal(image, second)
    # Weights in memory lie on other boundaries than in a mapped file, which can change the last bit of a product.
    assert int(np.abs(image.astype(int) - wanted).max()) <= 1
    assert "it/s" not in capfd.readouterr().err
    assert loaded.defaults == pinco.defaults and loaded.device == torch.device("cpu")


def test_loading_reads_the_backbones_own_settings(folders: tuple[Path, Path]) -> None:
    (folders[0] / "pinco.json").write_text(json.dumps({"steps": 7, "working_pixels": 128 * 128}))
    loaded = load_pipeline(folders[0], dtype="bfloat16")
    assert (loaded.defaults.steps, loaded.defaults.working_pixels) == (7, 128 * 128)
    assert loaded.adapter is None and loaded.pipe.transformer.dtype == torch.bfloat16


def test_bfloat16_generates(folders: tuple[Path, Path], make_canvas: MakeCanvas) -> None:
    loaded = load_pipeline(*folders, dtype="bfloat16")
    assert loaded.adapter is not None and {p.dtype for p in loaded.adapter.parameters()} == {torch.bfloat16}
    request = loaded.defaults.request(PROMPT, seed=1, steps=2, blending=True)
    assert loaded.generate(loaded.encode_canvas(make_canvas()), [request])[0].std() > 0


def test_loading_refuses_what_does_not_fit(folders: tuple[Path, Path]) -> None:
    backbone, adapter = folders
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, float16, not 'int8'"):
        load_pipeline(backbone, dtype="int8")
    config = json.loads((adapter / "config.json").read_text())
    (adapter / "config.json").write_text(json.dumps(config | {"depth": config["depth"] + 1}))
    with pytest.raises(BackboneMismatchError, match=r"differ in depth\.[\s\S]*depth="):
        load_pipeline(backbone, adapter)
    index = json.loads((backbone / "model_index.json").read_text())
    (backbone / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableAudioPipeline"}))
    with pytest.raises(UnknownPipelineError, match=r"backbone holds a StableAudioPipeline; Pinco can run .*Pipeline"):
        load_pipeline(backbone)


def test_quantised_weights_make_nearly_the_same_image_and_the_adapter_keeps_its_numbers(
    folders: tuple[Path, Path], make_canvas: MakeCanvas
) -> None:
    plain = load_pipeline(*folders, dtype="bfloat16")
    small = load_pipeline(*folders, dtype="bfloat16", execution=Execution(quantise="int8"))
    kinds = {
        type(module.weight.data).__name__
        for module in small.pipe.transformer.modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert "Int8Tensor" in kinds
    assert small.adapter is not None and {p.dtype for p in small.adapter.parameters()} == {torch.bfloat16}
    for part in ("vae", *(name for name in small.pipe.components if name.startswith("text_encoder"))):
        weights = getattr(small.pipe, part)
        assert weights is None or {type(p).__name__ for p in weights.parameters()} == {"Parameter"}
    request = plain.defaults.request(PROMPT, seed=1, steps=2)
    one, other = (pinco.generate(pinco.encode_canvas(make_canvas()), [request])[0] for pinco in (plain, small))
    assert not np.array_equal(one, other)
    assert np.abs(one.astype(int) - other).mean() < 8


def test_numbers_that_the_cpu_does_not_have_are_refused_before_anything_is_read(folders: tuple[Path, Path]) -> None:
    for file in (folders[0] / "transformer").glob("*.safetensors"):
        file.write_bytes(b"not read")
    with pytest.raises(ExecutionError, match=r"model\.quantise: fp8 needs a CUDA device"):
        load_pipeline(*folders, execution=Execution(quantise="fp8"))


def test_it_says_where_the_weights_lie(folders: tuple[Path, Path]) -> None:
    placed = load_pipeline(*folders, execution=Execution(placement="offload_model")).placement
    assert placed is not None and placed.name == "resident"
    assert re.fullmatch(r"placement: resident \(\d+ MiB of weights, about \d+ MiB of work, \S+ GiB free\)", placed.line)


def test_weights_of_a_variant_are_loaded_where_there_are_no_others(
    folders: tuple[Path, Path], make_canvas: MakeCanvas
) -> None:
    whole = load_pipeline(*folders, dtype="float16")
    folder = folders[0]
    whole.pipe.save_pretrained(folder, variant="fp16")
    for file in folder.glob("*/*.safetensors"):
        if ".fp16" not in file.name:
            file.unlink()
    assert BackboneFolder(folder).variant == "fp16"
    half = load_pipeline(*folders, dtype="float16")
    for name, weight in whole.pipe.transformer.state_dict().items():
        assert torch.equal(weight, half.pipe.transformer.state_dict()[name])


def test_half_precision_is_mapped_and_not_copied(folders: tuple[Path, Path]) -> None:
    """So actors of one machine share large weights in the page cache."""
    load_pipeline(folders[0], dtype="bfloat16").pipe.save_pretrained(folders[0])
    loaded, other = load_pipeline(folders[0], dtype="bfloat16"), load_pipeline(folders[0])
    mapped = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if str(folders[0]) in line
    ]

    def shares(pinco: PincoPipeline) -> set[bool]:
        weights = [parameter.data_ptr() for parameter in pinco.pipe.transformer.parameters()]
        return {any(start <= weight < end for start, end in mapped) for weight in weights}

    assert shares(loaded) == {True} and shares(other) == {False}


def test_bytes_do_not_depend_on_how_the_files_are_laid_out(folders: tuple[Path, Path], make_canvas: MakeCanvas) -> None:
    images = []
    for shift in range(0, 64, 12):
        for folder in folders:
            for file in folder.rglob("*.safetensors"):
                save_file(load_file(file), file, metadata={"format": "pt", "shift": "x" * shift})
        loaded = load_pipeline(*folders)
        assert loaded.adapter is not None
        for part in (loaded.pipe.transformer, loaded.pipe.vae, loaded.adapter):
            assert {tensor.data_ptr() % ALIGNMENT for tensor in part.parameters()} == {0}
        request = loaded.defaults.request(PROMPT, seed=1, steps=2, true_cfg=2.0)
        images.append(loaded.generate(loaded.encode_canvas(make_canvas()), [request])[0])
    for image in images[1:]:
        np.testing.assert_array_equal(image, images[0])
