from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pinco.pipelines.methods import method_named
from pinco.pipelines.methods.choice import MethodError
from pinco.pipelines.methods.controlnet import ControlNet
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas

MakeCanvas = Callable[..., Canvas]


def test_it_is_found_by_its_name() -> None:
    assert isinstance(method_named("controlnet"), ControlNet)


def test_without_a_controlnet_it_says_what_is_missing(new_pipe: Callable[[str], Any], make_canvas: MakeCanvas) -> None:
    with pytest.raises(MethodError, match=r"needs an inpainting ControlNet.*--controlnet"):
        PincoPipeline(new_pipe("sd3")).encode_canvas(make_canvas(), "controlnet")


def test_a_family_without_one_says_why(new_pipe: Callable[[str], Any], make_canvas: MakeCanvas) -> None:
    with pytest.raises(MethodError, match=r"HunyuanDiTPipeline\. Its ControlNets were made for edges.*Choose another"):
        PincoPipeline(new_pipe("hunyuan")).encode_canvas(make_canvas(), "controlnet")


@pytest.mark.parametrize("name", ["flux-controlnet", "sd3-controlnet"])
def test_the_controlnet_decides_the_image(
    load_case: Callable[[str], PincoPipeline], make_canvas: MakeCanvas, name: str
) -> None:
    pinco = load_case(name)
    request = pinco.defaults.request("on grass", seed=1, steps=2)
    encoded = pinco.encode_canvas(make_canvas(), "controlnet")
    image = pinco.generate(encoded, [request])[0]
    hook = pinco.controlnet.register_forward_hook(lambda module, given, out: tuple(_nothing(part) for part in out))
    without = pinco.generate(encoded, [request])[0]
    hook.remove()
    assert not np.array_equal(image, without)


def _nothing(samples: Any) -> Any:
    return None if samples is None else [sample * 0 for sample in samples]
