"""What loading a pipeline from folders promises, on tiny random backbones of two very different families."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pinco.adapter import BackboneMismatchError, PincoAdapter
from pinco.pipelines.families import UnknownPipelineError
from pinco.pipelines.loading import load_pipeline
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas

MakeCanvas = Callable[..., Canvas]
PROMPT = "a bottle on grass"


@pytest.fixture
def folders(pipe: Any, adapter: PincoAdapter, tmp_path: Path) -> tuple[Path, Path]:
    pipe.save_pretrained(tmp_path / "backbone")
    adapter.save_pretrained(tmp_path / "adapter")
    return tmp_path / "backbone", tmp_path / "adapter"


def test_from_folders_it_makes_the_same_bytes_without_a_progress_bar(
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
    loaded = load_pipeline(*folders)
    image = loaded.generate(loaded.encode_canvas(make_canvas()), [request])[0]
    assert np.array_equal(image, wanted)
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
