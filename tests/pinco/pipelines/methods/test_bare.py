from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pinco.adapter import AdapterNotAttachedError, PincoAdapter
from pinco.method_names import METHODS
from pinco.pipelines.methods.bare import Bare
from pinco.pipelines.methods.choice import MethodError
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from tests.families import inpainting

MakeCanvas = Callable[..., Canvas]


def test_it_is_offered_to_no_catalog() -> None:
    assert Bare.name not in METHODS


def test_it_is_the_method_of_a_pipeline_without_an_adapter(pipe: Any, make_canvas: MakeCanvas) -> None:
    bare = PincoPipeline(pipe)
    request = bare.defaults.request("on grass", seed=1, steps=2)
    here, there = (bare.encode_canvas(make_canvas(left=left)) for left in (8, 32))
    assert here.method == "bare"
    assert np.array_equal(bare.generate(here, [request])[0], bare.generate(there, [request])[0])


def test_beside_an_adapter_it_is_refused(pipe: Any, adapter: PincoAdapter, make_canvas: MakeCanvas) -> None:
    pinco = PincoPipeline(pipe, adapter)
    with pytest.raises(AdapterNotAttachedError, match="without an adapter"):
        pinco.generate(pinco.encode_canvas(make_canvas(), "bare"), [pinco.defaults.request("on grass", seed=1)])


def test_a_fill_checkpoint_makes_nothing_of_a_prompt_alone(make_canvas: MakeCanvas) -> None:
    with pytest.raises(MethodError, match="the method bare is not possible with a FluxFillPipeline"):
        PincoPipeline(inpainting.new_fill()).encode_canvas(make_canvas(), "bare")
