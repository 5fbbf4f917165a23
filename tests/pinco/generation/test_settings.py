from __future__ import annotations

import pytest
from pydantic import ValidationError

from pinco.generation.settings import ModelSettings
from pinco.pipelines.execution import Choice


def test_without_anything_the_built_in_model_decides() -> None:
    assert set(ModelSettings().model_dump().values()) == {None, "auto"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"working_pixels": 100},
        {"device": "tpu"},
        {"cache": "all"},
        {"preset": "best"},
        {"backbones": "x"},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ModelSettings.model_validate(wrong)


def test_ways_to_compute_are_handed_on() -> None:
    settings = ModelSettings(preset="fast", quantise="int8", cache="none")
    assert settings.choice == Choice(preset="fast", quantise="int8", cache="none")
