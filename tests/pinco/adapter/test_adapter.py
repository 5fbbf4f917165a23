"""The adapter as a whole, on small random Flux backbones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from safetensors.torch import load_file
from torch import Tensor

from pinco.adapter import BackboneMismatchError, PincoAdapter, Subject
from pinco.adapter.tokens import pack

MakeAdapter = Callable[..., PincoAdapter]
Flux = FluxTransformer2DModel
SubjectInputs = tuple[Tensor, Tensor]


def _run(model: Flux, inputs: dict[str, Any], subject: Subject) -> Tensor:
    out: Tensor = model(**inputs, joint_attention_kwargs={"subject": subject})[0]
    return out


def _shut(adapter: PincoAdapter) -> PincoAdapter:
    with torch.no_grad():
        for number in adapter.settings.layers:
            adapter.layer(number).gate.value.zero_()
    return adapter


@pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
@pytest.mark.parametrize("guidance", [False, True], ids=["plain", "guidance-embedded"])
@torch.no_grad()
def test_zero_gates_are_bit_identical_to_the_bare_backbone(
    flux: Callable[..., Flux],
    vae_config: dict[str, Any],
    inputs_for: Callable[..., dict[str, Any]],
    subject_inputs: SubjectInputs,
    guidance: bool,
    cache: bool,
) -> None:
    model = flux(guidance_embeds=guidance)
    inputs = inputs_for(model)
    bare = model(**inputs)[0]
    adapter = PincoAdapter.for_backbone(model, vae_config).attach(model)
    assert torch.equal(_run(model, inputs, adapter.encode(*subject_inputs, cache=cache)), bare)


@torch.no_grad()
def test_open_gates_and_the_subject_change_the_output(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs
) -> None:
    bare = transformer(**inputs)[0]
    adapter = make_adapter().attach(transformer)
    with_subject = _run(transformer, inputs, adapter.encode(*subject_inputs))
    other = _run(transformer, inputs, adapter.encode(-subject_inputs[0], subject_inputs[1]))
    assert float((with_subject - bare).norm() / bare.norm()) > 0.01
    assert float((with_subject - other).norm() / bare.norm()) > 0.01
    assert torch.equal(transformer(**inputs)[0], bare)  # without a subject it stays the backbone


@torch.no_grad()
def test_scale_goes_from_the_bare_backbone_to_the_whole_adapter(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs
) -> None:
    bare = transformer(**inputs)[0]
    adapter = make_adapter().attach(transformer)
    subject = adapter.encode(*subject_inputs)
    assert adapter.scale == 1.0
    distances = []
    for scale in (0.0, 0.5, 1.0):
        adapter.scale = scale
        assert adapter.scale == scale
        distances.append(float((_run(transformer, inputs, subject) - bare).norm()))
    assert distances[0] == 0.0 < distances[1] < distances[2]


@pytest.mark.parametrize("scale", [-0.01, 1.01, float("nan"), float("inf")])
def test_scale_is_bounded(make_adapter: MakeAdapter, scale: float) -> None:
    adapter = make_adapter()
    with pytest.raises(ValueError, match="scale must lie between 0 and 1"):
        adapter.scale = scale
    assert adapter.scale == 1.0


@pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
@torch.no_grad()
def test_a_complement_mix_takes_from_the_backbone_what_it_adds(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs, cache: bool
) -> None:
    outputs = []
    for mix in ("one", "complement"):
        adapter = make_adapter(mix=mix).attach(transformer)
        a, b = adapter.weights(adapter.layer(0))
        torch.testing.assert_close(a.expand_as(b), torch.ones_like(b) if mix == "one" else 1 - b)
        outputs.append(_run(transformer, inputs, adapter.encode(*subject_inputs, cache=cache)))
        adapter.detach()
    assert not torch.allclose(*outputs)


@pytest.mark.parametrize("prune", [False, True], ids=["all", "pruned"])
@pytest.mark.parametrize("anchor", [True, False], ids=["anchored", "free"])
@torch.no_grad()
def test_cached_keys_and_values_equal_uncached_ones(
    make_adapter: MakeAdapter,
    transformer: Flux,
    inputs: dict[str, Any],
    subject_inputs: SubjectInputs,
    anchor: bool,
    prune: bool,
) -> None:
    adapter = make_adapter(anchor=anchor, prune=prune).attach(transformer)
    subject = adapter.encode(*subject_inputs)
    cached = adapter.with_keys_values(subject)
    assert cached.cache is not None and set(cached.cache) == {0, 1, 2, 3}
    calls: list[int] = []
    for number in adapter.settings.layers:
        adapter.layer(number).register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(_run(transformer, inputs, cached), _run(transformer, inputs, subject), atol=1e-6, rtol=0)
    assert len(calls) == 4  # the cached run projects nothing


@torch.no_grad()
def test_one_cached_subject_serves_a_batch(
    make_adapter: MakeAdapter,
    transformer: Flux,
    inputs: dict[str, Any],
    subject_inputs_for: Callable[[int], SubjectInputs],
) -> None:
    adapter = make_adapter().attach(transformer)
    latents, maps = subject_inputs_for(1)
    one = adapter.encode(latents, maps, cache=True)
    twice = adapter.encode(latents.repeat(2, 1, 1, 1), maps.repeat(2, 1, 1, 1))
    torch.testing.assert_close(_run(transformer, inputs, one), _run(transformer, inputs, twice), atol=1e-6, rtol=0)


@torch.no_grad()
def test_layers_with_shut_gates_are_left_out_of_the_cache(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs
) -> None:
    adapter = make_adapter().attach(transformer)
    adapter.layer(2).gate.value.zero_()
    subject = adapter.encode(*subject_inputs, cache=True)
    assert subject.cache is not None and subject.cache[2] is None and subject.cache[3] is not None
    uncached = _run(transformer, inputs, adapter.encode(*subject_inputs))
    torch.testing.assert_close(_run(transformer, inputs, subject), uncached, atol=1e-6, rtol=0)


def test_caching_needs_the_backbones_positions(make_adapter: MakeAdapter, subject_inputs: SubjectInputs) -> None:
    with pytest.raises(RuntimeError, match="attach the adapter"):
        make_adapter().encode(*subject_inputs, cache=True)


def test_a_cached_subject_does_not_train(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs
) -> None:
    adapter = make_adapter().attach(transformer)
    subject = adapter.encode(*subject_inputs, cache=True)
    with pytest.raises(RuntimeError, match="carries no gradients"):
        _run(transformer, inputs, subject)


@torch.no_grad()
def test_pruning_is_the_same_as_masking_the_other_tokens_out(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs
) -> None:
    adapter = make_adapter(prune=True).attach(transformer)
    pruned = adapter.encode(*subject_inputs)
    assert pruned.tokens.shape[1] == 6 and pruned.keep is not None and int(pruned.keep.sum()) == 4 + 6
    every = adapter.extractor(*subject_inputs)
    keep = torch.zeros(2, 20, dtype=torch.bool)
    for sample in range(2):
        assert pruned.index is not None
        keep[sample, pruned.index[sample][pruned.keep[sample]]] = True
    masked = Subject(every, pruned.grid, keep=keep)
    torch.testing.assert_close(_run(transformer, inputs, pruned), _run(transformer, inputs, masked), atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_sample_does_not_feel_its_neighbours_padding(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs
) -> None:
    adapter = make_adapter().attach(transformer)
    together = _run(transformer, inputs, adapter.encode(*subject_inputs))
    for sample in range(2):
        part = slice(sample, sample + 1)
        batched = ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep")
        alone = {name: value[part] if name in batched else value for name, value in inputs.items()}
        subject = adapter.encode(subject_inputs[0][part], subject_inputs[1][part])
        assert subject.keep is None
        torch.testing.assert_close(_run(transformer, alone, subject), together[part], atol=1e-5, rtol=0)


@pytest.mark.parametrize("prune", [False, True], ids=["all", "pruned"])
def test_gradient_checkpointing_gives_equal_gradients(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs, prune: bool
) -> None:
    adapter = make_adapter(prune=prune).attach(transformer)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            transformer.enable_gradient_checkpointing()
        adapter.zero_grad()
        _run(transformer, inputs, adapter.encode(*subject_inputs)).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in adapter.named_parameters()})
    for name, wanted in gradients[0].items():
        assert wanted is not None and bool(wanted.any()), name
        assert torch.equal(gradients[1][name], wanted), name


def test_at_the_start_only_the_gates_learn(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs
) -> None:
    """Zero gates still get their gradients; what lies behind them follows when they have moved."""
    adapter = _shut(make_adapter()).attach(transformer)
    bare = transformer(**inputs)[0]
    out = _run(transformer, inputs, adapter.encode(*subject_inputs))
    torch.testing.assert_close(out, bare, atol=1e-6, rtol=0)
    out.square().mean().backward()
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.any()) is name.endswith("gate.value"), name


def test_optimiser_groups_hold_every_weight_once(make_adapter: MakeAdapter) -> None:
    adapter = make_adapter()
    projections, gates = adapter.parameter_groups(lr=1e-3)
    assert (projections["lr"], gates["lr"], gates["weight_decay"]) == (1e-3, 1e-2, 0.0)
    assert len(gates["params"]) == 4
    held = [id(parameter) for group in (projections, gates) for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in adapter.parameters())
    torch.optim.AdamW(adapter.parameter_groups(lr=1e-3, gate_lr_scale=2.0))


@pytest.mark.parametrize("options", [{}, {"rank": 3, "gate": "layer", "layers": "single", "shape": "vae"}])
def test_saving_and_loading(
    make_adapter: MakeAdapter, transformer: Flux, tmp_path: Path, options: dict[str, Any]
) -> None:
    adapter = make_adapter(**options).attach(transformer)
    adapter.scale = 0.25
    adapter.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert set(stored) == {name for name, _ in adapter.named_parameters()}  # nothing of the backbone, no buffers
    loaded = PincoAdapter.from_pretrained(tmp_path)
    assert loaded.settings == adapter.settings and loaded.scale == 1.0 and not loaded.attached
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, stored[name])
    adapter.detach()
    loaded.attach(transformer)


@torch.no_grad()
def test_a_loaded_adapter_does_what_the_saved_one_did(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs, tmp_path: Path
) -> None:
    adapter = make_adapter().attach(transformer)
    wanted = _run(transformer, inputs, adapter.encode(*subject_inputs))
    adapter.save_pretrained(tmp_path)
    adapter.detach()
    loaded = PincoAdapter.from_pretrained(tmp_path).attach(transformer)
    assert torch.equal(_run(transformer, inputs, loaded.encode(*subject_inputs)), wanted)


@torch.no_grad()
def test_in_bfloat16(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs
) -> None:
    adapter = make_adapter().attach(transformer)
    wanted = _run(transformer, inputs, adapter.encode(*subject_inputs))
    transformer.to(torch.bfloat16)
    kept = ("img_ids", "txt_ids", "timestep")
    half = {k: v.bfloat16() if isinstance(v, Tensor) and k not in kept else v for k, v in inputs.items()}
    for dtype in (torch.float32, torch.bfloat16):  # an adapter in training precision, and one cast with its backbone
        out = _run(transformer, half, adapter.to(dtype).encode(*subject_inputs))
        assert out.dtype == torch.bfloat16
        assert float((out.float() - wanted).norm() / wanted.norm()) < 0.05


@pytest.mark.parametrize(
    "changes",
    [
        {"num_layers": 1},
        {"num_single_layers": 3},
        {"num_attention_heads": 1},
        {"attention_head_dim": 32, "axes_dims_rope": (8, 12, 12), "num_attention_heads": 1},
        {"in_channels": 16},
    ],
)
def test_another_backbone_is_refused_naming_both(
    make_adapter: MakeAdapter, flux: Callable[..., Flux], changes: dict[str, Any]
) -> None:
    adapter, other = make_adapter(), flux(**changes)
    with pytest.raises(BackboneMismatchError, match=r"adapter:  family=flux[\s\S]*backbone: family=flux"):
        adapter.attach(other)
    assert not adapter.attached
    assert all(type(processor) is FluxAttnProcessor for processor in other.attn_processors.values())


def test_another_architecture_is_refused(make_adapter: MakeAdapter) -> None:
    unet = UNet2DConditionModel(
        block_out_channels=(4,), norm_num_groups=2, cross_attention_dim=4, layers_per_block=1,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), attention_head_dim=2,
    )  # fmt: skip
    with pytest.raises(TypeError, match="known backbone families: flux"):
        make_adapter().attach(unet)


def test_attaching_twice_is_refused(make_adapter: MakeAdapter, transformer: Flux) -> None:
    adapter = make_adapter().attach(transformer)
    assert adapter.attached_to(transformer)
    with pytest.raises(RuntimeError, match="attached already"):
        adapter.attach(transformer)


def test_a_copy_is_attached_to_nothing(make_adapter: MakeAdapter, transformer: Flux) -> None:
    adapter = make_adapter().attach(transformer)
    twin = copy.deepcopy(adapter)
    assert adapter.attached and not twin.attached
    assert twin.layer(0).gate.value is not adapter.layer(0).gate.value


@pytest.mark.parametrize(
    ("layers", "numbers"), [("all", (0, 1, 2, 3)), ("double", (0, 1)), ("single", (2, 3)), ([3, 1], (1, 3))]
)
def test_layers_by_name_or_number(make_adapter: MakeAdapter, layers: Any, numbers: tuple[int, ...]) -> None:
    adapter = make_adapter(layers=layers)
    assert adapter.settings.layers == numbers and set(adapter.gates()) == set(numbers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "some"}, "layers must be all, double, single or layer numbers"),
        ({"subject_dim": 24}, "needs tokens as wide as the backbone"),
        ({"init_semantic": "clip"}, "init_semantic must be backbone or random"),
    ],
)
def test_bad_options_are_refused(make_adapter: MakeAdapter, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_adapter(**options)


def test_narrow_subject_tokens_work_with_a_random_start(
    make_adapter: MakeAdapter, transformer: Flux, inputs: dict[str, Any], subject_inputs: SubjectInputs
) -> None:
    adapter = make_adapter(subject_dim=12, init_semantic="random").attach(transformer)
    subject = adapter.encode(*subject_inputs)
    assert subject.tokens.shape[-1] == 12
    _run(transformer, inputs, subject)


@pytest.mark.parametrize("guidance", [False, True], ids=["plain", "guidance-embedded"])
@torch.no_grad()
def test_the_first_layer_starts_as_the_backbone_sees_a_clean_image(
    flux: Callable[..., Flux], vae_config: dict[str, Any], subject_inputs: SubjectInputs, guidance: bool
) -> None:
    """K_sub and V_sub of layer 0 are the backbone's own K and V of the subject's latents at timestep 0."""
    model = flux(guidance_embeds=guidance)
    adapter = PincoAdapter.for_backbone(model, vae_config, shape="none", prune=False)
    keys, values = adapter.layer(0)(adapter.encode(*subject_inputs).tokens)
    conditioning = (torch.zeros(1), *((torch.tensor([3500.0]),) if guidance else ()), torch.zeros(1, 8))
    embedded = model.x_embedder(pack(subject_inputs[0], 2))
    block = model.transformer_blocks[0]
    normed = block.norm1(embedded, emb=model.time_text_embed(*conditioning))[0]
    own_keys = block.attn.norm_k(block.attn.to_k(normed).unflatten(-1, (2, 16)))
    torch.testing.assert_close(keys, own_keys, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(values.flatten(2), block.attn.to_v(normed), atol=1e-4, rtol=1e-4)


def test_a_vae_of_other_latents_is_refused(transformer: Flux) -> None:
    with pytest.raises(ValueError, match="VAE makes 4 latent channels, the transformer takes 16"):
        PincoAdapter.for_backbone(transformer, {"block_out_channels": (1,) * 4, "latent_channels": 4})


@pytest.mark.parametrize(
    ("latents", "maps", "message"),
    [
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 64, 64), r"latents must be \[B, 16, h, w\]"),
        (torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 64, 32), r"maps must be \(1, 3, 64, 64\)"),
        (torch.zeros(2, 16, 8, 8), torch.zeros(1, 3, 64, 64), r"maps must be \(2, 3, 64, 64\)"),
        (torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "floating point"),
        (torch.zeros(1, 16, 8, 7), torch.zeros(1, 3, 64, 56), "7 x 8 does not divide into patches of 2"),
        (torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 64, 64), "covers no token"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    make_adapter: MakeAdapter, latents: Tensor, maps: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_adapter().encode(latents, maps)


def test_an_unknown_family_is_refused(make_adapter: MakeAdapter) -> None:
    config = dict(make_adapter().config) | {"family": "sd9"}
    with pytest.raises(ValueError, match="unknown backbone family 'sd9'; known: flux"):
        PincoAdapter.from_config(config)
