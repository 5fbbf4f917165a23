"""The seven steps, one by one and in one go, with the untrained toy."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pinco.catalog.ids.job import Job
from pinco.catalog.sheet.channels import Channel
from pinco.generation.cutouts import CutoutCache
from pinco.generation.faults import PhotoChangedError, PhotoMissingError
from pinco.generation.model import Model
from pinco.generation.steps import make_rows, place_product, prepare, read_photo
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


def test_the_channel_decides_the_file(new_job: NewJob, spec: RunSpec, cutouts: CutoutCache, model: Model) -> None:
    spec = replace(spec, channels={"shop": Channel("shop", (96, 96), "jpeg", 80)})
    job = new_job(channel="shop", placement=Placement("centre"))
    store = spec.open_store()
    (row,) = make_rows([Take.first(job)], prepare(job, spec, cutouts), model, spec, store)
    assert (row.format, str(row.image_uri)[-4:]) == ("jpeg", ".jpg")
    assert Image.open(io.BytesIO(Path(store.uri_of(str(row.image_uri))).read_bytes())).format == "JPEG"
