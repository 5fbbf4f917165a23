from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pinco.generation import model as module
from pinco.generation.faults import AcceleratorFaultError, DeviceMemoryError
from pinco.generation.fingerprint import folder_sha256
from pinco.generation.model import KEPT_CANVASES, EncodedProduct, Model, environment
from pinco.generation.settings import ModelSettings
from pinco.pipelines.methods.choice import MethodError
from preprocessing.arrays import U8
from preprocessing.canvas import Canvas
from tests.families import inpainting, sd3
from tests.pinco.pipelines.odd_pipeline import make_odd_pipe, open_adapter


@pytest.fixture
def canvas() -> Canvas:
    alpha = np.zeros((64, 64), np.uint8)
    alpha[16:48, 16:48] = 255
    image = np.full((64, 64, 3), 128, np.uint8)
    image[16:48, 16:48] = (200, 30, 60)
    return Canvas(image, alpha, alpha // 2, alpha // 4)


def _generate(model: Model, encoded: EncodedProduct, asked: Sequence[tuple[str, str | None, int]]) -> list[U8]:
    return model.decode(model.sample(encoded, asked))


def test_a_canvas_is_encoded_once_while_it_is_among_the_last(model: Model, canvas: Canvas) -> None:
    first = model.encode(canvas, "first")
    assert model.encode(canvas, "first") is first
    for number in range(KEPT_CANVASES):
        model.encode(canvas, str(number))
    assert model.encode(canvas, "first") is not first


def test_raw_images_have_the_canvas_size_and_follow_the_seed(model: Model, canvas: Canvas) -> None:
    encoded = model.encode(canvas, "seeds")
    one, other, again = _generate(model, encoded, [("on grass", None, 1), ("on grass", None, 2), ("on grass", None, 1)])
    assert one.shape == (64, 64, 3) and one.dtype == np.uint8
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(one, again)


def test_identity_names_weights_and_settings(model: Model, model_settings: ModelSettings, toy: Path) -> None:
    identity = model.identity()
    assert (identity.steps, identity.dtype, identity.scheduler) == (2, "float32", "FlowMatchEulerDiscreteScheduler")
    assert (identity.method, identity.controlnet_sha256) == ("pinco", None)
    alone = Model(model_settings.model_copy(update={"adapter": None}), threads=1)
    assert (alone.identity().adapter_sha256, alone.identity().method) == (None, "blend")
    assert alone.identity().backbone_sha256 == identity.backbone_sha256


def test_one_model_serves_several_methods_and_names_what_each_uses(model: Model, canvas: Canvas) -> None:
    images = [
        _generate(model, model.encode(canvas, key, key), [("on grass", None, 1)])[0] for key in ("pinco", "blend")
    ]
    assert not np.array_equal(*images)
    pinco, blend = model.identity("pinco"), model.identity("blend")
    assert pinco == model.identity() and pinco.adapter_sha256 and not pinco.blending
    assert (blend.adapter_sha256, blend.adapter_scale, blend.prune, blend.blending) == (None, 0.0, False, True)
    with pytest.raises(MethodError, match="fill is not possible"):
        model.encode(canvas, "fill", "fill")


def test_the_identity_of_a_controlnet(canvas: Canvas, tmp_path: Path) -> None:
    sd3.new_pipe().save_pretrained(tmp_path / "backbone")
    inpainting.new_sd3_controlnet().save_pretrained(tmp_path / "controlnet")
    folders = {"backbone": str(tmp_path / "backbone"), "controlnet": str(tmp_path / "controlnet")}
    model = Model(ModelSettings(**folders, device="cpu", steps=1, true_cfg=1.0), threads=1)
    assert _generate(model, model.encode(canvas, "canvas"), [("on grass", None, 1)])[0].shape == (64, 64, 3)
    assert model.identity().method == "controlnet"
    assert model.identity().controlnet_sha256 == folder_sha256(tmp_path / "controlnet")
    assert model.identity("blend").controlnet_sha256 is None


def test_without_a_segmenter_nothing_is_scored_and_said_so(
    model_settings: ModelSettings, toy: Path, canvas: Canvas, tmp_path: Path
) -> None:
    alone = tmp_path / "backbone"
    shutil.copytree(toy / "backbone", alone)
    (alone / "pinco.json").unlink()
    settings = model_settings.model_copy(update={"backbone": str(alone), "adapter": None, "true_cfg": 1.0})
    model = Model(settings, threads=1)
    encoded = model.encode(canvas, "canvas")
    scores = model.score(canvas.image, encoded)
    assert (scores.extension, scores.shrinkage, scores.not_scored) == (None, None, ("extension", "shrinkage"))


def test_a_backbone_of_another_family_generates(canvas: Canvas, tmp_path: Path) -> None:
    pipe = make_odd_pipe()
    pipe.save_pretrained(tmp_path / "backbone")
    open_adapter(pipe).save_pretrained(tmp_path / "adapter")
    settings = ModelSettings(backbone=str(tmp_path / "backbone"), adapter=str(tmp_path / "adapter"), device="cpu")
    model = Model(settings, threads=1)
    one, other = _generate(model, model.encode(canvas, "canvas"), [("on grass", None, 1), ("on grass", None, 2)])
    assert one.shape == (64, 64, 3) and not np.array_equal(one, other)
    assert (model.identity().scheduler, model.identity().steps) == ("DDIMScheduler", 3)


def test_faults_get_the_names_that_the_driver_knows(
    model: Model, canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = model.encode(canvas, "faults")
    for raised, named in (
        (torch.OutOfMemoryError("CUDA out of memory"), DeviceMemoryError),
        (RuntimeError("CUDA error: device-side assert triggered"), AcceleratorFaultError),
        (KeyError("a bug"), KeyError),
    ):

        def fail(*_: object, error: Exception = raised, **__: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(model.pipeline, "sample", fail)
            with pytest.raises(named):
                model.sample(encoded, [("on grass", None, 1)])
        latents = model.sample(encoded, [("on grass", None, 1)])
        with monkeypatch.context() as patch:
            patch.setattr(model.pipeline, "decode", fail)
            with pytest.raises(named):
                model.decode(latents)


def test_the_environment_says_what_bytes_depend_on() -> None:
    said = json.loads(environment())
    assert set(said) == {"processor", *module.BYTES_DEPEND_ON}
    assert said["torch"] == torch.__version__.partition("+")[0]


def test_a_preset_decides_steps_and_cache_before_the_identity(model_settings: ModelSettings, canvas: Canvas) -> None:
    usual = Model(model_settings.model_copy(update={"steps": None}), threads=1).identity()
    assert usual.cache == "none" and usual.steps >= 8
    draft = Model(model_settings.model_copy(update={"steps": None, "preset": "draft"}), threads=1)
    assert (draft.identity().steps, draft.identity().cache) == (round(0.35 * usual.steps), "first_block")
    assert _generate(draft, draft.encode(canvas, "canvas"), [("on grass", None, 1)])[0].shape == (64, 64, 3)
    said = Model(model_settings.model_copy(update={"preset": "draft", "cache": "none"}), threads=1).identity()
    assert (said.steps, said.cache) == (2, "none"), "what is said goes first"


def test_quantised_weights_are_another_model(model_settings: ModelSettings, model: Model) -> None:
    small = Model(model_settings.model_copy(update={"quantise": "int8"}), threads=1)
    assert small.identity() == replace(model.identity(), quantise="int8")


def test_where_the_weights_lie_is_no_other_model(model_settings: ModelSettings, model: Model) -> None:
    placed = Model(model_settings.model_copy(update={"placement": "offload_model"}), threads=1)
    assert placed.identity() == model.identity()
    assert placed.placement.startswith("placement: resident (")


def test_canvases_are_kept_by_their_bytes(
    model_settings: ModelSettings, canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = Model(model_settings, threads=1).encode(canvas, "one").canvas.nbytes
    assert size > 2 * 64 * 64
    monkeypatch.setattr(module, "KEPT_CANVAS_BYTES", 2 * size)
    few = Model(model_settings, threads=1)
    first = few.encode(canvas, "first")
    assert few.encode(canvas, "first") is first
    few.encode(canvas, "second"), few.encode(canvas, "third")
    assert few.encode(canvas, "first") is not first
    monkeypatch.setattr(module, "KEPT_CANVAS_BYTES", size - 1)
    one = Model(model_settings, threads=1)
    first = one.encode(canvas, "first")
    assert one.encode(canvas, "first") is first, "the last one is kept, however large"
    one.encode(canvas, "second")
    assert one.encode(canvas, "first") is not first


def test_prompts_of_the_run_are_handed_on_from_the_first_that_is_asked_for(
    model: Model, canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def sample(*_: object, ahead: list[str]) -> None:
        seen.append(list(ahead))

    monkeypatch.setattr(model.pipeline, "sample", sample)
    encoded = model.encode(canvas, "expected")
    model.expect(["on sand", "on grass", "on sand", "in snow"])
    for prompt in ("on grass", "in snow", "elsewhere"):
        model.sample(encoded, [(prompt, None, 1)])
    model.expect(())
    assert seen == [["on grass", "in snow"], ["in snow"], ["on sand", "on grass", "in snow"]]


def test_the_settings_method_need_not_be_possible_where_channels_name_others(
    model_settings: ModelSettings, canvas: Canvas
) -> None:
    model = Model(model_settings.model_copy(update={"adapter": None, "method": "pinco"}), threads=1)
    assert _generate(model, model.encode(canvas, "hero", "blend"), [("on grass", None, 1)])[0].shape == (64, 64, 3)
    with pytest.raises(MethodError, match="needs a Pinco adapter"):
        model.encode(canvas, "plain")


def test_weights_that_do_not_fit_are_said_with_the_way_out(
    model_settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.0 GiB\nof which")

    monkeypatch.setattr(module, "load_pipeline", fail)
    with pytest.raises(DeviceMemoryError, match=r"\(CUDA out of memory\. Tried .* 9\.0 GiB\): set model\.placement to"):
        Model(model_settings, threads=1)
