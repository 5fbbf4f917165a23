from __future__ import annotations

from collections.abc import Callable

import pytest

from flows.driver.actors import Generator, Preprocessor
from pinco.catalog.ids.job import Job
from pinco.generation.settings import ModelSettings
from pinco.generation.take import RunSpec, Take


def test_what_one_actor_prepares_the_other_finishes(
    new_job: Callable[..., Job], spec: RunSpec, model_settings: ModelSettings
) -> None:
    takes = [Take.first(new_job(prompt=prompt)) for prompt in ("on grass", "on sand")]
    status, placed = Preprocessor(spec, threads=1).prepare(takes)
    generator = Generator(spec, model_settings, threads=1)
    generator.load()
    rows = generator.generate(takes, placed, 1)
    assert status == "prepared"
    assert [row.prompt for row in rows] == ["on grass", "on sand"]
    assert all(row.image_uri and row.run_id == "night" for row in rows)
    assert len(list(spec.open_store().list("_cutouts/"))) == 1


def test_a_generator_without_weights_says_so(
    new_job: Callable[..., Job], spec: RunSpec, model_settings: ModelSettings
) -> None:
    takes = [Take.first(new_job())]
    _, placed = Preprocessor(spec, threads=1).prepare(takes)
    with pytest.raises(RuntimeError, match="load"):
        Generator(spec, model_settings, threads=1).generate(takes, placed, 1)
