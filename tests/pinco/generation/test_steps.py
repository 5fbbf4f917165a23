"""The seven steps, one by one and in one go, with the untrained toy."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pinco.catalog.ids.identity import Recipe
from pinco.catalog.ids.job import Job
from pinco.catalog.quality.decision import QualityRules
from pinco.catalog.sheet.channels import Channel
from pinco.generation import steps
from pinco.generation.cutouts import CutoutCache
from pinco.generation.faults import DeviceMemoryError, PhotoChangedError, PhotoMissingError
from pinco.generation.model import Model, Scores
from pinco.generation.steps import (
    finish_image,
    finish_rows,
    identity_of,
    make_rows,
    place_product,
    prepare,
    read_photo,
    sample,
)
from pinco.generation.take import RunSpec, Take
from preprocessing.canvas import Placement
from preprocessing.cutout import make_cutout

NewJob = Callable[..., Job]


@pytest.fixture
def cutouts(spec: RunSpec) -> CutoutCache:
    return CutoutCache(None, spec.recipe)


def test_a_photo_that_was_changed_is_not_used(new_job: NewJob, spec: RunSpec, photo: Path) -> None:
    job = new_job()
    photo.write_bytes(photo.read_bytes() + b" ")
    with pytest.raises(PhotoChangedError, match="Run the sheet again"):
        read_photo(job, spec)


def test_a_photo_that_is_gone_is_no_fault_of_a_store(new_job: NewJob, spec: RunSpec, photo: Path) -> None:
    job = new_job()
    photo.unlink()
    with pytest.raises(PhotoMissingError, match="deleted or renamed"):
        read_photo(job, spec)


def test_a_cutout_that_lies_about_the_photo_is_found_out(new_job: NewJob, spec: RunSpec, photo: Path) -> None:
    honest = make_cutout(photo.read_bytes(), spec.recipe)
    painted = replace(
        honest, rgb=np.where(honest.alpha[..., None] > 0, np.uint8(7), np.uint8(0)) * np.ones(3, np.uint8)
    )
    assert place_product(honest, photo.read_bytes(), new_job(), spec).faithful
    assert not place_product(painted, photo.read_bytes(), new_job(), spec).faithful


def test_a_cutout_may_clean_its_edge(new_job: NewJob, spec: RunSpec, photo: Path) -> None:
    """Only opaque pixels are the photo's to prove; the edge's colours may be freed of the backdrop."""
    honest = make_cutout(photo.read_bytes(), spec.recipe)
    edge = (honest.alpha > 0) & (honest.alpha < 255)
    assert edge.sum() > 50
    cleaned = replace(honest, rgb=np.where(edge[..., None], 255 - honest.rgb, honest.rgb))
    job = new_job(delivery_size=(133, 133))  # resampled: the edge's colours reach into the core
    assert place_product(cleaned, photo.read_bytes(), job, spec).faithful


def test_the_identity_names_what_decides_the_image(new_job: NewJob, spec: RunSpec, model: Model) -> None:
    spec = replace(spec, channels={"shop": Channel("shop", (96, 80), "jpeg", 70, "srgb")}, shadow="contact-1")
    job = new_job(channel="shop", working_size=(64, 48), delivery_size=(96, 80))
    identity = identity_of(Take.another(job), model, spec)
    assert (identity.job_id, identity.seed) == (job.job_id, Take.another(job).seed)
    assert (identity.working_size, identity.delivery_size) == ((64, 48), (96, 80))
    assert (identity.format, identity.quality, identity.profile) == ("jpeg", 70, "srgb")
    assert (identity.shadow, identity.cutout_recipe) == ("contact-1", spec.recipe.version())
    assert identity.backbone_sha256 == model.identity().backbone_sha256


def test_canvas_and_layer_have_their_two_sizes(new_job: NewJob, spec: RunSpec, cutouts: CutoutCache) -> None:
    placed = prepare(new_job(working_size=(64, 48), delivery_size=(120, 90)), spec, cutouts)
    assert placed.canvas.image.shape == (48, 64, 3)
    assert placed.layer.rgb.shape == (90, 120, 3)


def test_rows_name_images_that_are_there_and_hold_the_product(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model, photo: Path
) -> None:
    job = new_job(delivery_size=(120, 120))  # the photo's own size: the core is the photo's, byte for byte
    store = spec.open_store()
    placed = prepare(job, spec, cutouts)
    (row,) = make_rows([Take.first(job)], placed, model, spec, store)
    assert (row.status in ("ok", "review", "rejected"), row.core_identical, row.job_id) == (True, True, job.job_id)
    picture = np.asarray(Image.open(store.uri_of(str(row.image_uri))))
    source = cv2.cvtColor(cv2.imread(str(photo), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
    core = cv2.erode(source[..., 3], np.ones((9, 9), np.uint8)) == 255  # the hard outline is given a soft edge
    assert core.mean() > 0.2
    np.testing.assert_array_equal(picture[core], source[core][:, :3])


def test_an_image_does_not_depend_on_its_company(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model
) -> None:
    takes = [Take.first(new_job(prompt=prompt)) for prompt in ("on grass", "on sand", "in the snow")]
    placed = prepare(takes[0].job, spec, cutouts)
    together = make_rows(takes, placed, model, spec, spec.open_store())
    (alone,) = make_rows([takes[1]], placed, model, spec, spec.open_store())
    assert alone.image_sha256 == together[1].image_sha256
    assert len({row.image_sha256 for row in together}) == 3


def test_another_seed_is_another_generation_of_the_same_job(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model
) -> None:
    job = new_job()
    placed = prepare(job, spec, cutouts)
    first, second = make_rows([Take.first(job), Take.another(job)], placed, model, spec, spec.open_store())
    assert first.job_id == second.job_id
    assert first.generation_id != second.generation_id
    assert first.pixels_sha256 != second.pixels_sha256
    assert (second.seed, second.job().seed) == (Take.another(job).seed, job.seed)


def test_what_fails_in_one_finish_fails_one_row(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = [Take.first(new_job(prompt=prompt)) for prompt in ("on grass", "on sand")]
    placed = prepare(takes[0].job, spec, cutouts)
    calls = iter([RuntimeError("the disk is full"), None])
    original = Model.score

    def score(self: Model, *arguments: object) -> object:
        if (error := next(calls)) is not None:
            raise error
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "score", score)
    rows = make_rows(takes, placed, model, spec, spec.open_store(), attempts=2)
    assert [row.status == "failed" for row in rows] == [True, False]
    assert (rows[0].error_message, rows[0].attempts) == ("the disk is full", 2)


@pytest.mark.parametrize(
    ("scores", "status", "reason"),
    [
        (Scores(0.0, 0.9), "review", "partly covered: 90%"),
        (Scores(0.45, 0.0), "rejected", "grew by 45%"),
        (Scores(0.2, 0.05), "ok", None),
    ],
)
def test_what_was_measured_and_the_runs_limits_decide_the_status(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model, monkeypatch: pytest.MonkeyPatch,
    scores: Scores, status: str, reason: str | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(Model, "score", lambda *_: scores)
    spec = replace(spec, rules=QualityRules(reject_extension=0.4))
    job = new_job()
    (row,) = make_rows([Take.first(job)], prepare(job, spec, cutouts), model, spec, spec.open_store())
    assert (row.status, row.extension, row.shrinkage) == (status, scores.extension, scores.shrinkage)
    assert reason is None or reason in str(row.reason)


def test_a_product_that_is_not_proven_is_not_called_identical(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model
) -> None:
    job = new_job()
    placed = replace(prepare(job, spec, cutouts), faithful=False)
    (row,) = make_rows([Take.first(job)], placed, model, spec, spec.open_store())
    assert (row.core_identical, row.status) == (False, "rejected")


def test_an_uncertain_outline_is_reviewed(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "score", lambda *_: Scores(0.0, 0.0))
    job = new_job()
    placed = replace(prepare(job, spec, cutouts), mask_confidence=0.25)
    (row,) = make_rows([Take.first(job)], placed, model, spec, spec.open_store())
    assert (row.status, row.mask_confidence) == ("review", 0.25) and "uncertain (25%)" in str(row.reason)


def test_the_shadow_of_the_settings_is_drawn(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model
) -> None:
    job = new_job()
    placed = prepare(job, spec, cutouts)
    rows = [
        make_rows([Take.first(job)], placed, model, replace(spec, shadow=shadow), spec.open_store())[0]
        for shadow in ("none", "contact-1")
    ]
    assert rows[0].pixels_sha256 != rows[1].pixels_sha256
    assert [Recipe.from_json(str(row.recipe)).generation.shadow for row in rows] == ["none", "contact-1"]


def test_the_time_of_a_batch_is_shared_by_its_rows(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def slowed(method: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def slow(*arguments: object) -> object:
            clock[0] += seconds
            return method(*arguments)

        return slow

    monkeypatch.setattr(Model, "sample", slowed(Model.sample, 10))
    monkeypatch.setattr(Model, "decode", slowed(Model.decode, 4))
    monkeypatch.setattr(steps, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    takes = [Take.first(new_job(prompt=prompt)) for prompt in ("on grass", "on sand")]
    rows = make_rows(takes, prepare(takes[0].job, spec, cutouts), model, spec, spec.open_store())
    assert [row.seconds for row in rows] == [7.0, 7.0]


def test_a_decode_without_memory_fails_the_batch_and_no_row(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver asks again for fewer; a row that says failed would be the end of it."""
    takes = [Take.first(new_job(prompt=prompt)) for prompt in ("on grass", "on sand")]
    placed = prepare(takes[0].job, spec, cutouts)
    sampled = sample(takes, placed, model, spec)

    def fail(*_: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model.pipeline, "decode", fail)
        with pytest.raises(DeviceMemoryError):
            finish_rows(sampled, takes, placed, model, spec, spec.open_store())
    rows = finish_rows(sampled, takes, placed, model, spec, spec.open_store())
    assert all(row.image_uri for row in rows)


@pytest.mark.parametrize("profile", ["source", "srgb"])
def test_the_layer_is_in_the_colours_of_the_channel(
    new_job: NewJob, spec: RunSpec, photo: Path, exchanged_profile: bytes, profile: Any
) -> None:
    cutout = replace(make_cutout(photo.read_bytes(), spec.recipe), icc=exchanged_profile)
    spec = replace(spec, channels={name: replace(channel, profile=profile) for name, channel in spec.channels.items()})
    placed = place_product(cutout, photo.read_bytes(), new_job(), spec)
    core = placed.layer.alpha == 255
    plain = place_product(replace(cutout, icc=None), photo.read_bytes(), new_job(), spec).layer.rgb
    if profile == "source":
        assert placed.icc == exchanged_profile
        np.testing.assert_array_equal(placed.layer.rgb[core], plain[core])
    else:  # red and green have changed places, and the file needs no profile
        assert placed.icc is None
        assert np.abs(placed.layer.rgb[core][:, [1, 0, 2]].astype(int) - plain[core]).max() <= 8


def test_the_file_holds_the_raw_image_around_the_product_and_the_photos_profile(
    new_job: NewJob, spec: RunSpec, photo: Path, model: Model, exchanged_profile: bytes
) -> None:
    cutout = replace(make_cutout(photo.read_bytes(), spec.recipe), icc=exchanged_profile)
    job = new_job()
    placed = place_product(cutout, photo.read_bytes(), job, spec)
    height, width = placed.canvas.alpha.shape
    raw = np.zeros((height, width, 3), np.uint8)
    raw[height // 2 :] = 220  # light below
    encoded = steps.encode(model, placed, job, spec)
    finished = finish_image(raw, placed, encoded, model, identity_of(Take.first(job), model, spec), spec)
    background = placed.layer.alpha == 0
    above, below = (finished.pixels[part][background[part]].mean() for part in (slice(None, 20), slice(-20, None)))
    assert above < 60 < 150 < below
    file = Image.open(io.BytesIO(finished.file))
    assert file.info["icc_profile"] == exchanged_profile
    np.testing.assert_array_equal(np.asarray(file), finished.pixels)


def test_a_file_that_lost_the_product_is_found_out(
    new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lossless file is opened again: what counts are the bytes that are delivered."""
    encode = steps.encode_image
    monkeypatch.setattr(steps, "encode_image", lambda pixels, *args, **options: encode(255 - pixels, *args, **options))
    job = new_job()
    (row,) = make_rows([Take.first(job)], prepare(job, spec, cutouts), model, spec, spec.open_store())
    assert (row.core_identical, row.status) == (False, "rejected")


def test_the_channel_decides_the_file(new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model) -> None:
    spec = replace(spec, channels={"shop": Channel("shop", (96, 96), "jpeg", 80)})
    job = new_job(channel="shop", placement=Placement("centre"))
    store = spec.open_store()
    (row,) = make_rows([Take.first(job)], prepare(job, spec, cutouts), model, spec, store)
    assert (row.format, str(row.image_uri)[-4:]) == ("jpeg", ".jpg")
    assert Image.open(io.BytesIO(Path(store.uri_of(str(row.image_uri))).read_bytes())).format == "JPEG"
