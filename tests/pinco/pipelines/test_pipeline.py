"""What every pipeline promises, on tiny random backbones of two very different families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pinco.adapter import AdapterNotAttachedError, AlreadyAttachedError, PincoAdapter
from pinco.knobs import KNOBS
from pinco.pipelines.encoded import image_tensor
from pinco.pipelines.families import UnknownPipelineError
from pinco.pipelines.pipeline import NoTextEncoderError, PincoPipeline
from preprocessing.canvas import Canvas
from tests.pinco.pipelines.odd_pipeline import open_adapter

MakeCanvas = Callable[..., Canvas]
PROMPT = "a bottle on grass"


@pytest.fixture
def pinco(pipe: Any, adapter: PincoAdapter) -> PincoPipeline:
    return PincoPipeline(pipe, adapter)


def _requests(pipeline: PincoPipeline, **options: Any) -> list[Any]:
    settings = {"steps": 2, "true_cfg": 2.0} | options
    return [
        pipeline.defaults.request(PROMPT, seed=1, **settings),
        pipeline.defaults.request("in snow", seed=1, negative="night", **settings),
        pipeline.defaults.request(PROMPT, seed=2, **(settings | {"steps": 3})),
        pipeline.defaults.request(PROMPT, seed=1, **(settings | {"blending": True})),
    ]


def test_images_have_the_canvas_size_and_follow_prompt_and_seed(pinco: PincoPipeline, make_canvas: MakeCanvas) -> None:
    images = pinco.generate(pinco.encode_canvas(make_canvas(64, 48)), _requests(pinco))
    assert all(image.shape == (48, 64, 3) and image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == 4
    assert pinco.generate(pinco.encode_canvas(make_canvas(64, 48)), []) == []


def test_an_image_is_byte_identical_whatever_else_is_in_the_call(pinco: PincoPipeline, make_canvas: MakeCanvas) -> None:
    encoded, requests = pinco.encode_canvas(make_canvas()), _requests(pinco)
    together = pinco.generate(encoded, requests)
    for request, image in zip(requests, together, strict=True):
        again = pinco.encode_canvas(make_canvas())
        assert np.array_equal(pinco.generate(again, [request])[0], image)
    backwards = pinco.generate(encoded, requests[::-1])
    assert all(np.array_equal(a, b) for a, b in zip(backwards, together[::-1], strict=True))


def test_a_batch_makes_the_same_images_up_to_rounding(pinco: PincoPipeline, make_canvas: MakeCanvas) -> None:
    """What accelerators do: requests with equal settings share the calls, the others keep their place."""
    encoded, requests = pinco.encode_canvas(make_canvas()), _requests(pinco)
    requests.append(pinco.defaults.request(PROMPT, seed=5, steps=2, true_cfg=2.0))
    alone = pinco.generate(encoded, requests)
    samples: list[int] = []
    hook = pinco.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: samples.append(len(kwargs["hidden_states"] if not args else args[0])),
        with_kwargs=True,
    )
    batching = PincoPipeline(pinco.pipe, pinco.adapter, one_at_a_time=False)
    together = batching.generate(encoded, requests)
    hook.remove()
    # Two guidance branches of every image and step, whether in one call or in two; fewer calls than alone.
    assert sum(samples) == 2 * (3 * 2 + 3 + 2) and len(samples) <= 2 * (2 + 3 + 2)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


@pytest.mark.parametrize("name", ["flux", "z-image"])
def test_a_compiled_transformer_makes_the_same_image(
    name: str, new_pipe: Callable[[str], Any], make_canvas: MakeCanvas
) -> None:
    """The object that `torch.compile` returns stands in the pipeline."""
    torch._dynamo.reset()
    pipe = new_pipe(name)
    adapter = open_adapter(pipe)
    pinco, canvas = PincoPipeline(pipe, adapter), make_canvas()
    request = pinco.defaults.request(PROMPT, seed=1, steps=2)
    wanted = pinco.generate(pinco.encode_canvas(canvas), [request])[0]
    adapter.detach()
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    compiled = PincoPipeline(pipe, adapter)
    image = compiled.generate(compiled.encode_canvas(canvas), [request])[0]
    assert np.abs(image.astype(int) - wanted.astype(int)).max() <= 1
    torch._dynamo.reset()


@pytest.mark.parametrize("knob", KNOBS)
def test_requests_that_differ_in_a_knob_share_no_batch(
    pipe: Any, make_canvas: MakeCanvas, knob: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinco = PincoPipeline(pipe, one_at_a_time=False)
    sizes: list[int] = []
    make = PincoPipeline._sample_alike

    def watch(self: PincoPipeline, encoded: Any, requests: Any) -> Any:
        sizes.append(len(requests))
        return make(self, encoded, requests)

    monkeypatch.setattr(PincoPipeline, "_sample_alike", watch)
    one = pinco.defaults.request(PROMPT, seed=1, steps=1, true_cfg=2.0, guidance=1.0)
    value = getattr(one, knob)
    pinco.generate(
        pinco.encode_canvas(make_canvas()),
        [one, replace(one, **{knob: not value if isinstance(value, bool) else value + 1}), replace(one, seed=2)],
    )
    assert sizes == [2, 1]


def test_the_bare_backbone_knows_nothing_of_the_product(
    pipe: Any, adapter: PincoAdapter, make_canvas: MakeCanvas
) -> None:
    bare = PincoPipeline(pipe)
    request = _requests(bare)[0]
    here, there = (bare.encode_canvas(make_canvas(left=left)) for left in (8, 32))
    image = bare.generate(here, [request])[0]
    assert here.subject is None
    assert np.array_equal(bare.generate(there, [request])[0], image)
    with_adapter = PincoPipeline(pipe, adapter)
    images = [
        with_adapter.generate(with_adapter.encode_canvas(make_canvas(left=left)), [request])[0] for left in (8, 32)
    ]
    assert not np.array_equal(images[0], image) and not np.array_equal(images[0], images[1])


def test_blending_puts_the_product_where_the_mask_is(pipe: Any, make_canvas: MakeCanvas) -> None:
    """The decoder sees the product's own latents under the mask, and the sampled ones elsewhere."""
    pinco = PincoPipeline(pipe)
    canvas = make_canvas(64, 48, left=16, top=16, side=16)
    encoded = pinco.encode_canvas(canvas)
    decoded: list[torch.Tensor] = []
    decode = pipe.vae.decode
    pipe.vae.decode = lambda latents, **kwargs: (decoded.append(latents), decode(latents, **kwargs))[1]
    try:
        requests = [pinco.defaults.request(PROMPT, seed=1, steps=2, blending=blending) for blending in (True, False)]
        pinco.generate(encoded, requests)
    finally:
        del pipe.vae.decode
    with torch.no_grad():  # as the VAE gives them: neither shifted and scaled nor packed, whatever the family does
        clean = pipe.vae.encode(image_tensor(canvas)).latent_dist.mode()
    side = 16 // pinco.dims.vae_scale_factor
    inside = (slice(None), slice(None), slice(side, 2 * side), slice(side, 2 * side))
    torch.testing.assert_close(decoded[0][inside], clean[inside], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(decoded[1][inside], clean[inside], atol=1e-2)
    assert not torch.allclose(decoded[0][..., 0:1, 0:1], clean[..., 0:1, 0:1], atol=1e-2)


def test_blending_renoises_with_the_noise_that_the_image_started_from(pipe: Any, make_canvas: MakeCanvas) -> None:
    """Of one step the transformer would see nothing but noise: in the second, under the mask, product and noise."""
    pinco = PincoPipeline(pipe)
    encoded = pinco.encode_canvas(make_canvas(64, 48, left=0, top=0, side=64))
    seen: list[torch.Tensor] = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["hidden_states"] if not args else args[0]), with_kwargs=True
    )
    pinco.generate(encoded, [pinco.defaults.request(PROMPT, seed=1, steps=2, blending=True, true_cfg=1.0)])
    hook.remove()
    start, then = (x if isinstance(x, torch.Tensor) else torch.stack(x)[:, :, 0] for x in seen)  # lists have frames
    wanted = pinco.family.renoise(pipe.scheduler, 0, encoded.clean, start)
    torch.testing.assert_close(then, wanted.to(then), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(then, encoded.clean.to(then), atol=1e-2)


def test_keys_values_and_prompts_are_made_once(
    pinco: PincoPipeline, adapter: PincoAdapter, make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    projected: list[int] = []
    encoded_prompts: list[str] = []
    encode = type(pinco.family).encode_prompt

    def count(family: Any, pipe: Any, prompt: str, length: int) -> Any:
        encoded_prompts.append(prompt)
        return encode(family, pipe, prompt, length)

    monkeypatch.setattr(type(pinco.family), "encode_prompt", count)
    adapter.layer(0).register_forward_hook(lambda *_: projected.append(1))
    pinco.generate(pinco.encode_canvas(make_canvas()), _requests(pinco))
    assert len(projected) == 1
    assert sorted(encoded_prompts) == sorted([PROMPT, "in snow", "night", ""])


def test_true_guidance_uses_the_negative_prompt(pinco: PincoPipeline, make_canvas: MakeCanvas) -> None:
    encoded = pinco.encode_canvas(make_canvas())
    plain, empty, snow = (
        pinco.generate(encoded, [pinco.defaults.request(PROMPT, seed=1, steps=2, true_cfg=cfg, negative=negative)])[0]
        for cfg, negative in ((1.0, "snow"), (3.0, None), (3.0, "snow"))
    )
    assert len({image.tobytes() for image in (plain, empty, snow)}) == 3


def test_without_true_guidance_nothing_is_computed_twice(pinco: PincoPipeline, make_canvas: MakeCanvas) -> None:
    samples: list[int] = []
    pinco.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: samples.append(len(kwargs["hidden_states"] if not args else args[0])),
        with_kwargs=True,
    )
    pinco.generate(pinco.encode_canvas(make_canvas()), [pinco.defaults.request(PROMPT, seed=1, steps=2, true_cfg=1.0)])
    assert samples == [1, 1]


@pytest.mark.parametrize("options", [{"shape": "vae"}, {"prune": False}, {"semantic": "none"}, {"anchor": False}])
def test_the_ablations_generate_too(pipe: Any, make_canvas: MakeCanvas, options: dict[str, Any]) -> None:
    pinco = PincoPipeline(pipe, open_adapter(pipe, **options))
    request = pinco.defaults.request(PROMPT, seed=1, steps=1)
    image = pinco.generate(pinco.encode_canvas(make_canvas()), [request])[0]
    assert pinco.adapter is not None
    pinco.adapter.scale = 0.0
    assert not np.array_equal(pinco.generate(pinco.encode_canvas(make_canvas()), [request])[0], image)


@pytest.mark.parametrize(("width", "height"), [(60, 48), (64, 50)])
def test_a_canvas_off_the_grid_is_refused(
    pinco: PincoPipeline, make_canvas: MakeCanvas, width: int, height: int
) -> None:
    with pytest.raises(ValueError, match=f"{width} x {height} pixels does not fit the backbone"):
        pinco.encode_canvas(make_canvas(width, height))


def test_a_canvas_without_a_product_is_refused(pinco: PincoPipeline, make_canvas: MakeCanvas) -> None:
    with pytest.raises(ValueError, match="covers no token"):
        pinco.encode_canvas(make_canvas(side=0))


def test_it_neither_freezes_nor_moves_an_adapter_in_training(pipe: Any, adapter: PincoAdapter) -> None:
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    for part in parts:
        part.train()  # as they are born: with dropout
    adapter.attach(pipe.transformer).train()
    PincoPipeline(pipe, adapter)
    assert len(parts) > 2 and not any(part.training for part in parts)
    assert adapter.training and all(parameter.requires_grad for parameter in adapter.parameters())


def test_an_adapter_on_another_backbone_is_refused(pipe: Any, adapter: PincoAdapter) -> None:
    adapter.attach(type(pipe)(**pipe.components).transformer)
    PincoPipeline(pipe, adapter)  # the very same transformer object
    adapter.detach()
    adapter.attach(type(pipe.transformer).from_config(pipe.transformer.config))
    with pytest.raises(AlreadyAttachedError, match="attached to another backbone"):
        PincoPipeline(pipe, adapter)


def test_without_its_adapter_it_makes_no_image(
    pinco: PincoPipeline, pipe: Any, adapter: PincoAdapter, make_canvas: MakeCanvas
) -> None:
    encoded, requests = pinco.encode_canvas(make_canvas()), _requests(pinco)[:1]
    wanted = pinco.generate(encoded, requests)[0]
    other = type(pipe.transformer).from_config(pipe.transformer.config)
    for elsewhere in (False, True):  # taken off, and put onto another backbone: there the product would just be lost
        adapter.detach()
        if elsewhere:
            adapter.attach(other)
        for call in (lambda: pinco.generate(encoded, requests), lambda: pinco.encode_canvas(make_canvas())):
            with pytest.raises(AdapterNotAttachedError, match="not attached to its backbone any more"):
                call()
    adapter.detach().attach(pipe.transformer)
    assert np.array_equal(pinco.generate(encoded, requests)[0], wanted)


def test_a_canvas_that_was_encoded_without_the_adapter_is_refused(
    pipe: Any, adapter: PincoAdapter, make_canvas: MakeCanvas
) -> None:
    encoded = PincoPipeline(pipe).encode_canvas(make_canvas())
    pinco = PincoPipeline(pipe, adapter)
    with pytest.raises(AdapterNotAttachedError, match="encoded by a pipeline without an adapter"):
        pinco.generate(encoded, _requests(pinco))


def test_without_text_encoders_it_takes_embeddings_and_asks_for_them(
    pinco: PincoPipeline, pipe: Any, adapter: PincoAdapter, make_canvas: MakeCanvas
) -> None:
    request = pinco.defaults.request(PROMPT, seed=1, negative="night", steps=2, true_cfg=2.0)
    wanted = pinco.generate(pinco.encode_canvas(make_canvas()), [request])[0]
    parts = [name for name in pipe.components if name.startswith(("text_encoder", "tokenizer"))]
    without = PincoPipeline(type(pipe)(**(pipe.components | dict.fromkeys(parts))), adapter)
    encoded = without.encode_canvas(make_canvas())
    with pytest.raises(NoTextEncoderError, match=rf"'{PROMPT}' cannot be encoded: .* without .*{parts[0]}"):
        without.generate(encoded, [request])
    for prompt in (PROMPT, "night"):
        without.prompts[prompt] = pinco.prompts[prompt]
    assert np.array_equal(without.generate(encoded, [request])[0], wanted)


def test_what_else_goes_wrong_in_a_text_encoder_is_said_as_it_is(
    pinco: PincoPipeline, make_canvas: MakeCanvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(type(pinco.family), "encode_prompt", fail)
    with pytest.raises(TypeError, match="a bug"):
        pinco.generate(pinco.encode_canvas(make_canvas()), _requests(pinco))


def test_a_pipeline_of_no_family_is_refused(pipe: Any) -> None:
    stranger = type("StrangePipeline", (type(pipe),), {"__init__": type(pipe).__init__})(**pipe.components)
    with pytest.raises(UnknownPipelineError, match=r"this pipeline holds a StrangePipeline; Pinco can run .*Pipeline"):
        PincoPipeline(stranger)
