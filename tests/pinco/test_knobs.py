from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from pinco.catalog.ids.identity import GenerationIdentity
from pinco.generation.settings import ModelSettings
from pinco.knobs import KNOBS, KnobOverrides, Knobs, knob_types, knobs_of
from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.request import GenerationRequest

USUAL = Knobs(steps=28, guidance=3.5, true_cfg=1.0)


@pytest.mark.parametrize("kind", [GenerationRequest, GenerationDefaults, GenerationIdentity])
def test_every_knob_is_part_of_requests_defaults_and_ids(kind: type) -> None:
    assert set(KNOBS) <= {field.name for field in fields(kind)}


def test_every_knob_is_a_setting() -> None:
    assert set(KNOBS) <= set(ModelSettings.model_fields)
    assert set(ModelSettings().knobs().values()) == {None}


def test_what_is_given_replaces_what_is_usual() -> None:
    assert USUAL.changed(steps=None, guidance=0.0) == Knobs(steps=28, guidance=0.0, true_cfg=1.0)
    assert knobs_of(USUAL) == {"steps": 28, "guidance": 3.5, "true_cfg": 1.0, "blending": False}
    with pytest.raises(TypeError, match="stepps"):
        USUAL.changed(stepps=3)


LIMITS: list[dict[str, Any]] = [{"steps": 0}, {"guidance": -1.0}, {"guidance": float("nan")}, {"true_cfg": 0.5}]


@pytest.mark.parametrize("wrong", LIMITS)
def test_settings_and_requests_have_the_same_limits(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        USUAL.changed(**wrong)
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        KnobOverrides(**wrong)


def test_a_knob_has_its_limits_beside_its_type() -> None:
    assert set(knob_types()) == set(KNOBS)
