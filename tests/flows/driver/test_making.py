"""The stage's decisions about actors; that it makes images is shown in tests/e2e."""

from __future__ import annotations

import pytest

from flows.driver import making
from flows.driver.making import _gpus_each, _lanes
from flows.settings import RaySettings, Settings
from pinco.generation.settings import ModelSettings


@pytest.mark.parametrize(
    ("there", "ray", "model", "gpus", "lanes"),
    [
        (0, RaySettings(), ModelSettings(), 0, 1),
        (0, RaySettings(generators=3), ModelSettings(), 0, 3),
        (4, RaySettings(), ModelSettings(), 1, 4),
        (4, RaySettings(generators=2), ModelSettings(), 1, 2),
        (4, RaySettings(generator_gpus=0.5), ModelSettings(), 0.5, 8),
        (4, RaySettings(), ModelSettings(device="cpu"), 0, 1),
        (4, RaySettings(generator_gpus=0, generators=2), ModelSettings(), 0, 2),
    ],
)
def test_actors_follow_the_gpus(
    there: float, ray: RaySettings, model: ModelSettings, gpus: float, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_gpus_there", lambda: there)
    settings = Settings(ray=ray, model=model)
    assert (_gpus_each(settings), _lanes(settings, gpus)) == (gpus, lanes)


def test_gpus_that_are_not_there_are_said_instead_of_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_gpus_there", lambda: 1.0)
    settings = Settings(ray=RaySettings(generators=2, generator_gpus=1))
    with pytest.raises(ValueError, match=r"2 inference actors.*this machine has 1"):
        _lanes(settings, 1.0)
    cluster = Settings(ray=RaySettings(generators=2, generator_gpus=1, address="ray://head:10001"))
    assert _lanes(cluster, 1.0) == 2, "a cluster may grow"
