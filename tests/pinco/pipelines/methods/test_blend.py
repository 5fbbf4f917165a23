"""Latent blending on a ground that matches, for every family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pinco.adapter import PincoAdapter
from pinco.pipelines.encoded import image_tensor
from pinco.pipelines.pipeline import PincoPipeline
from preprocessing.canvas import Canvas
from preprocessing.ground import on_ground

MakeCanvas = Callable[..., Canvas]
PROMPT = "a bottle on grass"


def test_the_product_is_encoded_again_on_the_ground_of_a_quick_first_pass(
    pipe: Any, make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinco, canvas = PincoPipeline(pipe), make_canvas(64, 48, left=16, top=16, side=16)
    family, encoded, calls, images = type(pinco.family), [], [], []
    encode, decode = family.encode_image, pipe.vae.decode
    monkeypatch.setattr(family, "encode_image", lambda self, p, x: (encoded.append(x), encode(self, p, x))[1])
    hook = pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    pipe.vae.decode = lambda latents, **options: (images.append(len(calls)), decode(latents, **options))[1]
    try:
        request = pinco.defaults.request(PROMPT, seed=1, steps=9, true_cfg=1.0)
        image = pinco.generate(pinco.encode_canvas(canvas, "blend"), [request])[0]
    finally:
        del pipe.vae.decode
        hook.remove()
    assert images == [2, 2 + 9]  # a quarter of the steps, then all of them
    neutral, matched = encoded
    torch.testing.assert_close(neutral, image_tensor(canvas))
    quick = PincoPipeline(pipe)
    first = quick.generate(quick.encode_canvas(canvas, "bare"), [replace(request, steps=2, blending=True)])[0]
    wanted = on_ground(canvas, first, quick.dims.vae_scale_factor)
    torch.testing.assert_close(matched, image_tensor(replace(canvas, image=wanted)))
    on_grey = quick.generate(quick.encode_canvas(canvas, "bare"), [replace(request, blending=True)])[0]
    assert image.shape == on_grey.shape == (48, 64, 3) and not np.array_equal(image, on_grey)


def test_the_products_latents_are_those_on_the_matching_ground(pipe: Any, make_canvas: MakeCanvas) -> None:
    """A product that fills the canvas: nothing is left to paint, so the image is the product, encoded and decoded."""
    pinco = PincoPipeline(pipe)
    canvas = make_canvas(64, 48, left=0, top=0, side=64)
    request = pinco.defaults.request(PROMPT, seed=1, steps=3)
    image = pinco.generate(pinco.encode_canvas(canvas, "blend"), [request])[0]
    with torch.no_grad():
        latents = pipe.vae.encode(image_tensor(canvas)).latent_dist.mode()
        back = pipe.vae.decode(latents).sample
    wanted = ((back[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).numpy()
    assert np.abs(image - wanted).max() <= 1


def test_it_is_on_whatever_the_knob_says_and_sees_no_adapter(
    pipe: Any, adapter: PincoAdapter, make_canvas: MakeCanvas
) -> None:
    alone = PincoPipeline(pipe)
    requests = [alone.defaults.request(PROMPT, seed=1, steps=2, blending=blending) for blending in (True, False)]
    one, other = alone.generate(alone.encode_canvas(make_canvas(), "blend"), requests)
    assert np.array_equal(one, other)
    beside = PincoPipeline(pipe, adapter)
    encoded = beside.encode_canvas(make_canvas(), "blend")
    assert encoded.subject is None
    assert np.array_equal(beside.generate(encoded, requests[:1])[0], one)


def test_every_image_of_a_batch_has_its_own_ground(new_pipe: Callable[[str], Any], make_canvas: MakeCanvas) -> None:
    pipe = new_pipe("flux")
    alone, batching = PincoPipeline(pipe), PincoPipeline(pipe, one_at_a_time=False)
    requests = [alone.defaults.request(prompt, seed=seed, steps=4) for seed, prompt in enumerate(("on grass", "snow"))]
    encoded = alone.encode_canvas(make_canvas(), "blend")
    for one, other in zip(alone.generate(encoded, requests), batching.generate(encoded, requests), strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 2  # rounded twice, with an encoding between
