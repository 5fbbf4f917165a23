from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pinco.pipelines.methods import method_named
from pinco.pipelines.methods.choice import MethodError
from pinco.pipelines.methods.fill import Fill
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas


def test_it_is_found_by_its_name() -> None:
    assert isinstance(method_named("fill"), Fill)


def test_a_text_to_image_backbone_refuses_it_and_names_those_that_can(
    new_pipe: Callable[[str], Any], make_canvas: Callable[..., Canvas]
) -> None:
    message = r"fill is not possible with a FluxPipeline.* \(pinco, blend, controlnet\).*: Flux2KleinPipeline, FluxFill"
    with pytest.raises(MethodError, match=message):
        PincoPipeline(new_pipe("flux")).encode_canvas(make_canvas(), "fill")
