from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pinco.catalog.ids.job import Job
from pinco.catalog.manifest.readers import UnknownGenerationError
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.generation.cutouts import CutoutCache
from pinco.generation.model import Model
from pinco.generation.replay import ReplayError, replay
from pinco.generation.settings import ModelSettings
from pinco.generation.steps import make_rows, prepare
from pinco.generation.take import RunSpec, Take


@pytest.fixture
def made(new_job: Callable[..., Job], spec: RunSpec, model: Model) -> Row:
    """One committed image, made with another seed than asked and a shadow, to see that both are taken from the row."""
    spec = replace(spec, shadow="contact-1")
    job, store = new_job(), spec.open_store()
    (row,) = make_rows([Take.another(job)], prepare(job, spec, CutoutCache(None, spec.recipe)), model, spec, store)
    ManifestTable(store).append([row], run_id="night", batch=1, base=0)
    return row


def test_the_same_bytes_from_the_row_alone(made: Row, spec: RunSpec, model_settings: ModelSettings) -> None:
    today = model_settings.model_copy(update={"steps": 9, "backbone": None})  # the row's own settings count
    again = replay(spec.store_uri, str(made.generation_id)[:8], today)
    assert (again.same_file, again.same_pixels, again.core_identical, again.psnr) == (True, True, True, float("inf"))


def test_without_the_adapter_it_is_refused_by_name(made: Row, spec: RunSpec, model_settings: ModelSettings) -> None:
    bare = model_settings.model_copy(update={"adapter": None})
    with pytest.raises(ReplayError, match=r"adapter_sha256.*None now"):
        replay(spec.store_uri, str(made.generation_id), bare)


def test_an_unknown_id_is_said(made: Row, spec: RunSpec) -> None:
    with pytest.raises(UnknownGenerationError):
        replay(spec.store_uri, "0123456789", ModelSettings())


@pytest.mark.parametrize("method", ["blend", "bare"])
def test_the_method_comes_from_the_row(
    new_job: Callable[..., Job], spec: RunSpec, model_settings: ModelSettings, method: str
) -> None:
    """Whatever weights are named today, and what today's settings would choose. Bare are rows of before."""
    job, store = new_job(), spec.open_store()
    spec = replace(spec, channels={"small": replace(spec.channels["small"], method=method)})
    alone = model_settings.model_copy(update={"adapter": None})
    placed = prepare(job, spec, CutoutCache(None, spec.recipe))
    (row,) = make_rows([Take.first(job)], placed, Model(alone, threads=1), spec, store)
    ManifestTable(store).append([row], run_id="night", batch=1, base=0)
    assert (row.method, row.adapter_sha256) == (method, None)
    again = replay(spec.store_uri, str(row.generation_id), model_settings.model_copy(update={"method": "pinco"}))
    assert again.same_file


def test_ways_to_compute_come_from_the_row(
    new_job: Callable[..., Job], spec: RunSpec, model_settings: ModelSettings
) -> None:
    settings = model_settings.model_copy(update={"cache": "first_block", "quantise": "int8", "vae_tiling": "on"})
    job, store, model = new_job(), spec.open_store(), Model(settings, threads=1)
    (row,) = make_rows([Take.first(job)], prepare(job, spec, CutoutCache(None, spec.recipe)), model, spec, store)
    ManifestTable(store).append([row], run_id="night", batch=1, base=0)
    today = model_settings.model_copy(update={"preset": "draft", "cache": "none"})
    again = replay(spec.store_uri, str(row.generation_id), today)
    assert (again.same_file, again.same_pixels) == (True, True)
