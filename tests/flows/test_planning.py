from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.planning import CatalogRequest, RetryRequest, new_run_id, plan_run, run_spec, sheet_settings, validate
from flows.settings import FinishSettings, Settings, SheetDefaults
from pinco.catalog.ids.job import Job
from pinco.catalog.manifest.connect import OldManifestError
from pinco.catalog.manifest.table import open_manifest
from pinco.catalog.sheet.problems import SheetError
from pinco.catalog.store.access import open_store
from pinco.catalog.store.base import StoreError
from pinco.generation.settings import ModelSettings
from pinco.generation.take import failed_row
from pinco.pipelines.families import UnknownPipelineError
from pinco.pipelines.methods.choice import MethodError
from preprocessing.canvas import working_size
from tests.pinco.pipelines.odd_pipeline import make_odd_pipe


@pytest.fixture
def settings() -> Settings:
    return Settings(
        model=ModelSettings(working_pixels=64 * 64),
        sheet=SheetDefaults(channel="small", placement="bottom", scale=0.5, negative="blurry"),
        channels={"small": {"size": "96x96"}},
        finish=FinishSettings(shadow="contact-1"),
    )


@pytest.fixture
def request_of(tmp_path: Path, photo: Path) -> CatalogRequest:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("sku,prompt\nball,on grass\nball,on sand\n")
    return CatalogRequest(str(sheet), str(tmp_path), str(tmp_path / "store"))


def test_the_settings_hold_where_the_sheet_says_nothing(settings: Settings, request_of: CatalogRequest) -> None:
    plan = plan_run(request_of, settings)
    assert len(plan.work) == 2
    job = plan.work[0]
    assert (job.channel, job.negative, job.placement.kind, job.placement.scale) == ("small", "blurry", "bottom", 0.5)
    assert (job.delivery_size, job.working_size) == ((96, 96), (64, 64))


def test_working_sizes_fit_the_backbones_tokens(settings: Settings, request_of: CatalogRequest, tmp_path: Path) -> None:
    """A backbone of another family, with tokens of 8 x 8 pixels instead of 16 x 16."""
    make_odd_pipe().save_pretrained(tmp_path / "backbone")
    changes = {"model": ModelSettings(backbone=str(tmp_path / "backbone")), "channels": {"small": {"size": "100x80"}}}
    job = plan_run(request_of, settings.model_copy(update=changes)).work[0]
    assert job.working_size == (72, 56) == working_size((100, 80), 64 * 64, 8)
    (tmp_path / "backbone" / "model_index.json").write_text('{"_class_name": "StableAudioPipeline"}')
    with pytest.raises(UnknownPipelineError, match="holds a StableAudioPipeline; Pinco can run"):
        plan_run(request_of, settings.model_copy(update=changes))


def test_limit_and_only(settings: Settings, request_of: CatalogRequest) -> None:
    limited = CatalogRequest(request_of.sheet, request_of.catalog, request_of.store, limit=1)
    assert len(plan_run(limited, settings).work) == 1
    nobody = CatalogRequest(request_of.sheet, request_of.catalog, request_of.store, only=("balll",))
    with pytest.raises(SheetError, match="Did you mean 'ball'"):
        plan_run(nobody, settings)


def test_validation_needs_no_store(settings: Settings, request_of: CatalogRequest, tmp_path: Path) -> None:
    assert validate(request_of.sheet, request_of.catalog, settings) == []
    assert not (tmp_path / "store").exists()
    Path(request_of.sheet).write_text("sku,prompt,scale\nball,on grass,7\n")
    with pytest.raises(SheetError, match="row 2, column scale"):
        validate(request_of.sheet, request_of.catalog, settings)


def test_a_manifest_of_the_old_format_stops_a_plan(settings: Settings, request_of: CatalogRequest) -> None:
    open_store(request_of.store).put_if_absent("_commits/000000000001.json", b"{}")
    with pytest.raises(OldManifestError, match="pinco manifest migrate"):
        plan_run(request_of, settings)


def test_a_spec_says_what_the_settings_say(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = run_spec("night", "store", settings)
    assert (spec.shadow, spec.store_uri) == ("contact-1", str(tmp_path / "store")), "actors have another folder"
    assert set(spec.channels) == set(sheet_settings(settings).channels)


def test_run_ids_differ() -> None:
    assert len({new_run_id() for _ in range(100)}) == 100


def test_a_method_that_is_not_possible_stops_a_plan_and_names_the_channel(
    settings: Settings, request_of: CatalogRequest
) -> None:
    """Only channels that the sheet uses count."""
    wrong = {"size": "96x96", "method": "fill"}
    unused = settings.model_copy(update={"channels": {**settings.channels, "hero": wrong}})
    assert plan_run(request_of, unused).work
    used = settings.model_copy(update={"channels": {"small": wrong}})
    for call in (
        lambda: plan_run(request_of, used),
        lambda: validate(request_of.sheet, request_of.catalog, used),
    ):
        with pytest.raises(MethodError, match=r"channel 'small': the method fill is not possible with a FluxPipeline"):
            call()


def test_a_plan_says_once_what_would_be_better_than_blending(
    settings: Settings, request_of: CatalogRequest, toy: Path, new_job: Callable[..., Job]
) -> None:
    assert plan_run(request_of, settings).advice is None  # the built-in model has an adapter
    model = ModelSettings(backbone=str(toy / "backbone"), working_pixels=64 * 64)
    alone = settings.model_copy(update={"model": model})
    assert str(plan_run(request_of, alone).advice).startswith("The method is blend")
    table = open_manifest(request_of.store)
    table.append([failed_row(new_job(), "x", StoreError("s"), attempts=1)], run_id="x", batch=1, base=0)
    assert str(plan_run(RetryRequest(request_of.store, "x"), alone).advice).startswith("The method is blend")
    asked = alone.model_copy(update={"model": model.model_copy(update={"method": "blend"})})
    assert plan_run(request_of, asked).advice is None
