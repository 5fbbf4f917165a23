from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pinco.method_names import BARE, METHODS
from pinco.pipelines.methods import method_named
from pinco.pipelines.methods.base import draw_noise
from pinco.pipelines.pipeline import PincoPipeline


def test_there_is_a_method_for_every_name() -> None:
    assert [method_named(name).name for name in (*METHODS, BARE)] == [*METHODS, BARE]
    with pytest.raises(ValueError, match="unknown method 'paint'; known: pinco, blend"):
        method_named("paint")


def test_each_image_has_the_noise_of_its_seed_whatever_else_is_in_the_batch(new_pipe: Callable[[str], Any]) -> None:
    pinco = PincoPipeline(new_pipe("flux"))
    requests = [pinco.defaults.request("x", seed=seed) for seed in (3, 4)]
    noise, generators = draw_noise(pinco, requests, (64, 48))
    assert noise.shape == (2, 16, 6, 8) and noise.dtype == torch.float32
    alone, _ = draw_noise(pinco, requests[1:], (64, 48))
    assert torch.equal(noise[1:], alone) and not torch.equal(noise[:1], alone)
    assert torch.equal(noise[0], torch.randn(16, 6, 8, generator=torch.Generator().manual_seed(3)))
    # The generators go on behind the noise that was drawn, for schedulers that draw more.
    assert not torch.equal(torch.randn(16, 6, 8, generator=generators[0]), noise[0])
