"""The Flux pipeline, on a tiny random backbone that has every real part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from pinco.adapter import BackboneMismatchError, PincoAdapter
from pinco.pipelines.flux import DEV, SCHNELL, FluxPincoPipeline
from preprocessing.canvas import Canvas

MakeCanvas = Callable[..., Canvas]
PROMPT = "a bottle on the beach"


@pytest.fixture
def pinco(pipe: FluxPipeline, adapter: PincoAdapter) -> FluxPincoPipeline:
    return FluxPincoPipeline(pipe, adapter)


def _requests(pipeline: FluxPincoPipeline, **options: Any) -> list[Any]:
    settings = {"steps": 2, "true_cfg": 2.0} | options
    return [
        pipeline.defaults.request(PROMPT, seed=1, **settings),
        pipeline.defaults.request("in snow", seed=1, negative="night", **settings),
        pipeline.defaults.request(PROMPT, seed=2, **(settings | {"steps": 3})),
        pipeline.defaults.request(PROMPT, seed=1, **(settings | {"blending": True})),
    ]


def test_images_have_the_canvas_size_and_follow_prompt_and_seed(
    pinco: FluxPincoPipeline, make_canvas: MakeCanvas
) -> None:
    images = pinco.generate(pinco.encode_canvas(make_canvas(64, 48)), _requests(pinco))
    assert all(image.shape == (48, 64, 3) and image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == 4
    assert pinco.generate(pinco.encode_canvas(make_canvas(64, 48)), []) == []


def test_an_image_is_byte_identical_whatever_else_is_in_the_call(
    pinco: FluxPincoPipeline, make_canvas: MakeCanvas
) -> None:
    encoded, requests = pinco.encode_canvas(make_canvas()), _requests(pinco)
    together = pinco.generate(encoded, requests)
    for request, image in zip(requests, together, strict=True):
        again = pinco.encode_canvas(make_canvas())
        assert np.array_equal(pinco.generate(again, [request])[0], image)
    backwards = pinco.generate(encoded, requests[::-1])
    assert all(np.array_equal(a, b) for a, b in zip(backwards, together[::-1], strict=True))


def test_a_batch_makes_the_same_images_up_to_rounding(pinco: FluxPincoPipeline, make_canvas: MakeCanvas) -> None:
    """What accelerators do: requests with equal settings share the calls, the others keep their place."""
    encoded, requests = pinco.encode_canvas(make_canvas()), _requests(pinco)
    alone = pinco.generate(encoded, requests)
    calls: list[int] = []
    hook = pinco.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    batching = FluxPincoPipeline(pinco.pipe, pinco.adapter, one_at_a_time=False)
    together = batching.generate(encoded, requests)
    hook.remove()
    assert sorted(calls) == [1] * (2 * 3 + 2 * 2) + [2] * (2 * 2)  # two guidance branches, three or two steps
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_with_zero_gates_it_is_diffusers_pipeline_bit_for_bit(pipe: FluxPipeline, make_canvas: MakeCanvas) -> None:
    adapter = PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config)
    pinco = FluxPincoPipeline(pipe, adapter)
    request = _requests(pinco)[1]
    image = pinco.generate(pinco.encode_canvas(make_canvas(64, 48)), [request])[0]
    adapter.detach()
    noise = torch.randn((1, 16, 6, 8), generator=torch.Generator("cpu").manual_seed(request.seed))
    bare = pipe(
        prompt=request.prompt,
        negative_prompt=request.negative,
        true_cfg_scale=2.0,
        num_inference_steps=2,
        guidance_scale=request.guidance,
        max_sequence_length=SCHNELL.max_sequence_length,
        latents=FluxPipeline._pack_latents(noise, 1, 16, 6, 8),
        width=64,
        height=48,
        output_type="pil",
    ).images[0]
    assert np.array_equal(image, np.asarray(bare))


def test_the_bare_backbone_knows_nothing_of_the_product(
    pipe: FluxPipeline, adapter: PincoAdapter, make_canvas: MakeCanvas
) -> None:
    bare = FluxPincoPipeline(pipe)
    request = _requests(bare)[0]
    here, there = (bare.encode_canvas(make_canvas(left=left)) for left in (8, 32))
    image = bare.generate(here, [request])[0]
    assert here.subject is None
    assert np.array_equal(bare.generate(there, [request])[0], image)
    with_adapter = FluxPincoPipeline(pipe, adapter)
    images = [
        with_adapter.generate(with_adapter.encode_canvas(make_canvas(left=left)), [request])[0] for left in (8, 32)
    ]
    assert not np.array_equal(images[0], image) and not np.array_equal(images[0], images[1])


def test_blending_puts_the_product_where_the_mask_is(pipe: FluxPipeline, make_canvas: MakeCanvas) -> None:
    """The decoder sees the product's own latents under the mask, and the sampled ones elsewhere."""
    pinco = FluxPincoPipeline(pipe)
    encoded = pinco.encode_canvas(make_canvas(64, 48, left=16, top=16, side=16))
    decoded: list[torch.Tensor] = []
    decode = pipe.vae.decode
    pipe.vae.decode = lambda latents, **kwargs: (decoded.append(latents), decode(latents, **kwargs))[1]
    try:
        requests = [pinco.defaults.request(PROMPT, seed=1, steps=2, blending=blending) for blending in (True, False)]
        pinco.generate(encoded, requests)
    finally:
        del pipe.vae.decode
    scaled = [(latents - 0.05) * 0.9 for latents in decoded]
    clean = FluxPipeline._unpack_latents(encoded.clean, 48, 64, 8)
    inside = (slice(None), slice(None), slice(2, 4), slice(2, 4))
    torch.testing.assert_close(scaled[0][inside], clean[inside], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(scaled[1][inside], clean[inside], atol=1e-2)
    assert not torch.allclose(scaled[0][..., 0:1, 0:1], clean[..., 0:1, 0:1], atol=1e-2)


def test_keys_values_and_prompts_are_made_once(
    pinco: FluxPincoPipeline, adapter: PincoAdapter, make_canvas: MakeCanvas
) -> None:
    projected: list[int] = []
    encoded_prompts: list[str] = []
    adapter.layer(0).register_forward_hook(lambda *_: projected.append(1))
    hook = pinco.pipe.text_encoder_2.register_forward_hook(lambda *_: encoded_prompts.append(""))
    pinco.generate(pinco.encode_canvas(make_canvas()), _requests(pinco))
    hook.remove()
    assert len(projected) == 1
    assert len(encoded_prompts) == 4  # two prompts, one negative, and the empty one


def test_true_guidance_uses_the_negative_prompt(pinco: FluxPincoPipeline, make_canvas: MakeCanvas) -> None:
    encoded = pinco.encode_canvas(make_canvas())
    plain, empty, snow = (
        pinco.generate(encoded, [pinco.defaults.request(PROMPT, seed=1, steps=2, true_cfg=cfg, negative=negative)])[0]
        for cfg, negative in ((1.0, "snow"), (3.0, None), (3.0, "snow"))
    )
    assert len({image.tobytes() for image in (plain, empty, snow)}) == 3


@pytest.mark.parametrize("options", [{"shape": "vae"}, {"prune": False}, {"semantic": "none"}, {"anchor": False}])
def test_the_ablations_generate_too(pipe: FluxPipeline, make_canvas: MakeCanvas, options: dict[str, Any]) -> None:
    adapter = PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config, shape_channels=8, **options)
    with torch.no_grad():
        adapter.layer(0).gate.value.fill_(1)
    pinco = FluxPincoPipeline(pipe, adapter)
    request = pinco.defaults.request(PROMPT, seed=1, steps=1)
    image = pinco.generate(pinco.encode_canvas(make_canvas()), [request])[0]
    adapter.scale = 0.0
    assert not np.array_equal(pinco.generate(pinco.encode_canvas(make_canvas()), [request])[0], image)


@pytest.mark.parametrize(("width", "height"), [(60, 48), (64, 50)])
def test_a_canvas_off_the_grid_is_refused(
    pinco: FluxPincoPipeline, make_canvas: MakeCanvas, width: int, height: int
) -> None:
    with pytest.raises(ValueError, match=f"{width} x {height} pixels does not fit the backbone"):
        pinco.encode_canvas(make_canvas(width, height))


def test_a_canvas_without_a_product_is_refused(pinco: FluxPincoPipeline, make_canvas: MakeCanvas) -> None:
    with pytest.raises(ValueError, match="covers no token"):
        pinco.encode_canvas(make_canvas(side=0))


def test_it_neither_freezes_nor_moves_an_adapter_in_training(pipe: FluxPipeline, adapter: PincoAdapter) -> None:
    adapter.attach(pipe.transformer).train()
    FluxPincoPipeline(pipe, adapter)
    assert adapter.training and all(parameter.requires_grad for parameter in adapter.parameters())


def test_an_adapter_on_another_backbone_is_refused(pipe: FluxPipeline, adapter: PincoAdapter) -> None:
    adapter.attach(FluxPipeline(**pipe.components).transformer)
    FluxPincoPipeline(pipe, adapter)  # the very same transformer object
    adapter.detach()
    other = type(pipe.transformer).from_config(pipe.transformer.config)
    adapter.attach(other)
    with pytest.raises(ValueError, match="attached to another backbone"):
        FluxPincoPipeline(pipe, adapter)


@pytest.fixture
def folders(pipe: FluxPipeline, adapter: PincoAdapter, tmp_path: Path) -> tuple[Path, Path]:
    pipe.save_pretrained(tmp_path / "backbone")
    adapter.save_pretrained(tmp_path / "adapter")
    return tmp_path / "backbone", tmp_path / "adapter"


def test_from_folders_it_makes_the_same_bytes_without_a_progress_bar(
    pinco: FluxPincoPipeline, folders: tuple[Path, Path], make_canvas: MakeCanvas, capfd: pytest.CaptureFixture[str]
) -> None:
    request = _requests(pinco)[1]
    wanted = pinco.generate(pinco.encode_canvas(make_canvas()), [request])[0]
    capfd.readouterr()
    loaded = FluxPincoPipeline.from_pretrained(*folders)
    image = loaded.generate(loaded.encode_canvas(make_canvas()), [request])[0]
    assert np.array_equal(image, wanted)
    assert "it/s" not in capfd.readouterr().err
    assert loaded.defaults == SCHNELL and loaded.device == torch.device("cpu")


def test_from_pretrained_reads_the_backbones_own_settings(folders: tuple[Path, Path]) -> None:
    (folders[0] / "pinco.json").write_text(json.dumps({"steps": 7, "working_pixels": 128 * 128}))
    loaded = FluxPincoPipeline.from_pretrained(folders[0], dtype="bfloat16")
    assert (loaded.defaults.steps, loaded.defaults.working_pixels) == (7, 128 * 128)
    assert loaded.adapter is None and loaded.pipe.transformer.dtype == torch.bfloat16


def test_bfloat16_generates(folders: tuple[Path, Path], make_canvas: MakeCanvas) -> None:
    loaded = FluxPincoPipeline.from_pretrained(*folders, dtype="bfloat16")
    request = loaded.defaults.request(PROMPT, seed=1, steps=2, blending=True)
    assert loaded.generate(loaded.encode_canvas(make_canvas()), [request])[0].std() > 0


def test_from_pretrained_refuses_what_does_not_fit(folders: tuple[Path, Path]) -> None:
    backbone, adapter = folders
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, float16, not 'int8'"):
        FluxPincoPipeline.from_pretrained(backbone, dtype="int8")
    config = json.loads((adapter / "config.json").read_text())
    (adapter / "config.json").write_text(json.dumps(config | {"depth": 3}))
    with pytest.raises(BackboneMismatchError, match=r"differ in depth\.[\s\S]*depth=3[\s\S]*depth=2"):
        FluxPincoPipeline.from_pretrained(backbone, adapter)
    index = json.loads((backbone / "model_index.json").read_text())
    (backbone / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusion3Pipeline"}))
    with pytest.raises(ValueError, match="holds a StableDiffusion3Pipeline; FluxPincoPipeline needs a FluxPipeline"):
        FluxPincoPipeline.from_pretrained(backbone)


def test_a_guidance_distilled_backbone_takes_devs_settings(
    make_guided_pipe: Callable[[], FluxPipeline], make_canvas: MakeCanvas
) -> None:
    pipe = make_guided_pipe()
    pinco = FluxPincoPipeline(pipe, PincoAdapter.for_backbone(pipe.transformer, pipe.vae.config, shape_channels=8))
    assert pinco.defaults == DEV
    encoded = pinco.encode_canvas(make_canvas())
    weak, strong = (
        pinco.generate(encoded, [pinco.defaults.request(PROMPT, seed=1, steps=2, guidance=guidance)])[0]
        for guidance in (1.0, 30.0)
    )
    assert not np.array_equal(weak, strong)
