from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pinco.adapter import AdapterNotAttachedError, PincoAdapter
from pinco.pipelines.methods.choice import MethodError
from pinco.pipelines.methods.pinco import Pinco
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas

MakeCanvas = Callable[..., Canvas]


def test_it_is_the_method_of_a_pipeline_with_an_adapter(
    pipe: Any, adapter: PincoAdapter, make_canvas: MakeCanvas
) -> None:
    encoded = PincoPipeline(pipe, adapter).encode_canvas(make_canvas())
    assert encoded.method == "pinco" and encoded.subject is not None
    assert encoded.clean is not None and encoded.mask is not None and encoded.clean.shape == encoded.mask.shape


def test_without_an_adapter_it_says_what_is_missing(new_pipe: Callable[[str], Any], make_canvas: MakeCanvas) -> None:
    pinco = PincoPipeline(new_pipe("flux"))
    with pytest.raises(MethodError, match=r"needs a Pinco adapter for the backbone.*--adapter"):
        pinco.encode_canvas(make_canvas(), "pinco")
    with pytest.raises(AdapterNotAttachedError, match="needs an adapter for its backbone"):
        Pinco().encode(pinco, make_canvas(), (64, 48))
