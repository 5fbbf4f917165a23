"""Every promise that an adapter makes, tested once for all backbone families.

A family's test module subclasses `AdapterSuite`, fills in a tiny random backbone and its inputs, and gets all tests:

    class TestMine(AdapterSuite):
        ...

What only that family promises is tested beside it. The manner is that of `testing_common` in peft and diffusers.
"""

from __future__ import annotations

import copy
import gc
import json
import logging
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from accelerate import cpu_offload
from diffusers import UNet2DConditionModel
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from peft import LoraConfig
from safetensors.torch import load_file
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from pinco.adapter import (
    AdapterNotAttachedError,
    AlreadyAttachedError,
    BackboneMismatchError,
    PincoAdapter,
    Subject,
    attention,
)
from pinco.adapter.families import UnknownFamilyError, family_of
from pinco.adapter.positions import Positions, Rotary
from pinco.adapter.processor import SubjectProcessor, keys_values
from pinco.adapter.subject import tile
from pinco.adapter.tokens import pack

Inputs = dict[str, Any]
SMALL, LARGE = (4, 5), (6, 7)
"""Grids of tokens, rows and columns."""


def open_gates(adapter: PincoAdapter) -> PincoAdapter:
    """Gates of both signs, as after training."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for number in adapter.settings.layers:
            gate = adapter.layer(number).gate.value
            gate.copy_(torch.rand(gate.shape, generator=generator) * 2 - 0.5)
    return adapter


def close_gates(adapter: PincoAdapter) -> PincoAdapter:
    """Gates at zero, as before training."""
    with torch.no_grad():
        for number in adapter.settings.layers:
            adapter.layer(number).gate.value.zero_()
    return adapter


def _fail(*_: Any) -> None:
    raise OSError("in the middle")


def watch_keys(monkeypatch: pytest.MonkeyPatch) -> dict[int, Tensor]:
    """The subject keys that reach the attention of each layer in the last call, `[B, N_sub, H, D]`."""
    seen: dict[int, Tensor] = {}
    compute = SubjectProcessor._keys_values

    def watch(processor: SubjectProcessor, *args: Any) -> tuple[Tensor, Tensor]:
        keys, values = compute(processor, *args)
        seen[processor.number] = keys
        return keys, values

    monkeypatch.setattr(SubjectProcessor, "_keys_values", watch)
    return seen


class AdapterSuite(ABC):
    """The shared tests. A family fills in what is abstract, and changes the rest where it must.

    Attributes:
        vae_config: Of a VAE that fits the backbone.
        batched: Names of the inputs whose first axis is the batch.
        full_precision: Names of the inputs that stay float32 in a backbone of half precision.
        other_sizes: Changes to the backbone that an adapter must notice.
        other_vae: Of a VAE that does not fit, with the message that says so.
        checkpointing: Whether the backbone has gradient checkpointing.
        whole: Names of the backbone's module classes whose weights are read without a call: sequential offload must
            bring them as a whole.
        timestep: Name of the input that holds the timesteps.
        depths: Changes to the backbone that give it few blocks of each kind, and more of them.
        repeated: Names of the block classes to compile, where diffusers does not name them; `None` for no compiling.
    """

    vae_config: ClassVar[Mapping[str, Any]]
    batched: ClassVar[tuple[str, ...]]
    full_precision: ClassVar[tuple[str, ...]] = ()
    other_sizes: ClassVar[list[dict[str, Any]]]
    other_vae: ClassVar[tuple[Mapping[str, Any], str]]
    checkpointing: ClassVar[bool] = True
    whole: ClassVar[list[str]] = []
    timestep: ClassVar[str] = "timestep"
    depths: ClassVar[tuple[Mapping[str, int], Mapping[str, int]]] = ({}, {})
    repeated: ClassVar[list[str] | None] = []

    # What a family fills in.

    @abstractmethod
    def new_backbone(self, **changes: Any) -> Any:
        """A frozen tiny backbone, always with the same random weights; `changes` go to its config."""

    @abstractmethod
    def new_inputs(self, backbone: Any, batch: int, grid: tuple[int, int]) -> Inputs:
        """Arguments of its forward, the same at each call, with `return_dict=False`."""

    @abstractmethod
    def replace_processor(self, backbone: Any) -> int:
        """Put a processor of a class that nobody knows into one layer; returns the layer's number."""

    @abstractmethod
    def first_layer_input(self, backbone: Any, latents: Tensor) -> Tensor:
        """What the attention of layer 0 gets for a noise-free image, `[B, N, D]`, without positions."""

    @abstractmethod
    def own_keys_values(self, backbone: Any, states: Tensor) -> tuple[Tensor, Tensor]:
        """Layer 0's keys (normalised, without positions) and values of image tokens, `[B, N, H, D]`."""

    def positions(self, adapter: PincoAdapter, grid: tuple[int, int]) -> Positions | None:
        """The positions of an image of `grid` tokens, without a batch."""
        return adapter.positions(grid, "cpu")

    # Helpers.

    @pytest.fixture
    def backbone(self) -> Any:
        return self.new_backbone()

    @pytest.fixture
    def inputs(self, backbone: Any) -> Inputs:
        return self.new_inputs(backbone, 2, SMALL)

    @pytest.fixture
    def subject_inputs(self, backbone: Any) -> tuple[Tensor, Tensor]:
        return self.new_subject_inputs(backbone)

    def new_adapter(self, backbone: Any, **options: Any) -> PincoAdapter:
        """An adapter with open gates; not attached."""
        torch.manual_seed(5)
        options = {"shape_channels": 8, "mask_dilation": 0} | options
        return open_gates(PincoAdapter.for_backbone(backbone, self.vae_config, **options))

    def new_subject_inputs(self, backbone: Any, batch: int = 2) -> tuple[Tensor, Tensor]:
        """Latents and maps whose products cover different numbers of tokens: 4, then 6."""
        dims = family_of(backbone).dims(backbone, self.vae_config)
        generator = torch.Generator().manual_seed(3)
        rows, columns = SMALL
        latents = torch.randn(
            batch, dims.latent_channels, rows * dims.patch_size, columns * dims.patch_size, generator=generator
        )
        side = dims.token_stride
        maps = torch.zeros(batch, 3, rows * side, columns * side)
        for sample in range(batch):
            right = (3 if sample % 2 == 0 else 4) * side
            place = (slice(side, 3 * side), slice(side, right))
            maps[sample, :, *place] = torch.rand(3, 2 * side, right - side, generator=generator)
            maps[sample, 0, *place] = 1
        return latents, maps

    def call(self, backbone: Any, inputs: Inputs, **extra: Any) -> Tensor:
        """The backbone's output, `[B, ...]`."""
        out: Tensor = backbone(**inputs, **extra)[0]
        return out

    def run(self, backbone: Any, inputs: Inputs, adapter: PincoAdapter, subject: Subject) -> Tensor:
        """The output with a subject."""
        with adapter.using(subject) as kwargs:
            return self.call(backbone, inputs, **kwargs)

    def part(self, inputs: Inputs, part: slice) -> Inputs:
        """Some samples of a batch."""
        return {name: value[part] if name in self.batched else value for name, value in inputs.items()}

    def doubled(self, inputs: Inputs) -> Inputs:
        """A batch twice, as classifier-free guidance does it."""

        def twice(value: Any) -> Any:
            return value * 2 if isinstance(value, list) else torch.cat([value] * 2)

        return {name: twice(value) if name in self.batched else value for name, value in inputs.items()}

    def half(self, inputs: Inputs) -> Inputs:
        """The inputs of a backbone in bfloat16."""

        def cast(value: Any) -> Any:
            if isinstance(value, list):
                return [cast(one) for one in value]
            return value.bfloat16() if isinstance(value, Tensor) and value.is_floating_point() else value

        return {name: value if name in self.full_precision else cast(value) for name, value in inputs.items()}

    def offload(self, backbone: Any) -> None:
        """Leave the backbone's weights on the meta device except while their module runs, as diffusers does it."""
        buffers = len(backbone._parameters) > 0
        cpu_offload(backbone, torch.device("cpu"), offload_buffers=buffers, preload_module_classes=self.whole)

    def add_lora(self, backbone: Any) -> None:
        """A random LoRA on the projections of the attentions and on the modulations."""
        torch.manual_seed(8)
        ends = ("to_q", "to_k", "to_v", "to_qkv_mlp_proj", ".linear", "adaLN_modulation.0", "adaLN_modulation.1")
        linears = (name for name, module in backbone.named_modules() if isinstance(module, torch.nn.Linear))
        names = [name for name in linears if name.endswith(ends)]
        backbone.add_adapter(LoraConfig(r=2, target_modules=names, init_lora_weights=False))

    @pytest.fixture
    def seen_keys(self, monkeypatch: pytest.MonkeyPatch) -> dict[int, Tensor]:
        """See `watch_keys`."""
        return watch_keys(monkeypatch)

    # An adapter that lets nothing in is not there.

    @pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
    @torch.no_grad()
    def test_zero_gates_are_bit_identical_to_the_bare_backbone(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor], cache: bool
    ) -> None:
        bare = self.call(backbone, inputs)
        adapter = PincoAdapter.for_backbone(backbone, self.vae_config).attach(backbone)
        assert torch.equal(self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs, cache=cache)), bare)

    @torch.no_grad()
    def test_open_gates_and_the_subject_change_the_output(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        bare = self.call(backbone, inputs)
        adapter = self.new_adapter(backbone).attach(backbone)
        with_subject = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        other = self.run(backbone, inputs, adapter, adapter.encode(-subject_inputs[0], subject_inputs[1]))
        assert float((with_subject - bare).norm() / bare.norm()) > 0.01
        assert float((with_subject - other).norm() / bare.norm()) > 0.01
        assert torch.equal(self.call(backbone, inputs), bare)  # without a subject it stays the backbone

    @torch.no_grad()
    def test_scale_goes_from_the_bare_backbone_to_the_whole_adapter(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        bare = self.call(backbone, inputs)
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        assert adapter.scale == 1.0
        distances = []
        for scale in (0.0, 0.5, 1.0):
            adapter.scale = scale
            assert adapter.scale == scale and adapter.disabled is (scale == 0)
            distances.append(float((self.run(backbone, inputs, adapter, subject) - bare).norm()))
        assert distances[0] == 0.0 < distances[1] < distances[2]

    @pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
    @torch.no_grad()
    def test_a_complement_mix_takes_from_the_backbone_what_it_adds(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor], cache: bool
    ) -> None:
        outputs = []
        for mix in ("one", "complement"):
            adapter = self.new_adapter(backbone, mix=mix).attach(backbone)
            a, b = adapter.weights(adapter.layer(0))
            torch.testing.assert_close(a, 1 - b if mix == "complement" else torch.ones(()))
            outputs.append(self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs, cache=cache)))
            adapter.detach()
        assert not torch.allclose(*outputs, atol=1e-3)

    # On and off the backbone.

    def test_detaching_puts_the_very_objects_back(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        family = family_of(backbone)
        originals = [attention.processor for attention in family.attentions(backbone)]
        bare = self.call(backbone, inputs)
        adapter = self.new_adapter(backbone).attach(backbone)
        entered = [attention.processor for attention in family.attentions(backbone)]
        assert not any(processor is original for processor, original in zip(entered, originals, strict=True))
        with torch.no_grad():
            self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        adapter.detach()
        assert not adapter.attached
        restored = [attention.processor for attention in family.attentions(backbone)]
        assert all(processor is original for processor, original in zip(restored, originals, strict=True))
        assert not any(module._forward_pre_hooks or module._forward_hooks for module in backbone.modules())
        assert torch.equal(self.call(backbone, inputs), bare)
        adapter.detach()  # a second time does nothing

    def test_only_the_chosen_layers_are_entered(self, backbone: Any) -> None:
        attentions = family_of(backbone).attentions(backbone)
        last = len(attentions) - 1
        originals = [attention.processor for attention in attentions]
        self.new_adapter(backbone, layers=[last, 0]).attach(backbone)
        entered = [n for n, attention in enumerate(attentions) if attention.processor is not originals[n]]
        assert entered == [0, last]

    @torch.no_grad()
    def test_layers_that_are_not_entered_see_no_subject_and_say_nothing(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        """diffusers warns in each call of an attention that is given an argument which its processor does not take."""
        adapter = self.new_adapter(backbone, layers=[1]).attach(backbone)
        records: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("diffusers")
        logger.addHandler(handler)
        try:
            self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        finally:
            logger.removeHandler(handler)
        assert records == []

    def test_layers_by_name_or_number(self, backbone: Any) -> None:
        family = family_of(backbone)
        depth = len(family.attentions(backbone))
        groups = {"all": range(depth), **family.layer_groups(backbone)}
        for name, numbers in groups.items():
            adapter = self.new_adapter(backbone, layers=name)
            assert adapter.settings.layers == tuple(numbers) and set(adapter.gates()) == set(numbers)
        assert self.new_adapter(backbone, layers=[depth - 1, 0]).settings.layers == (0, depth - 1)
        with pytest.raises(ValueError, match=f"layers must be {', '.join(groups)} or layer numbers, not 'some'"):
            self.new_adapter(backbone, layers="some")

    def test_the_adapters_weights_never_enter_the_backbone(self, backbone: Any) -> None:
        state = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        parameters = [name for name, _ in backbone.named_parameters()]
        modules = [name for name, _ in backbone.named_modules()]
        adapter = self.new_adapter(backbone).attach(backbone)
        attached = backbone.state_dict()
        assert list(attached) == list(state)
        assert all(torch.equal(attached[name], tensor) for name, tensor in state.items())
        assert [name for name, _ in backbone.named_parameters()] == parameters
        assert [name for name, _ in backbone.named_modules()] == modules
        assert not {id(p) for p in backbone.parameters()} & {id(p) for p in adapter.parameters()}

    def test_attaching_twice_is_refused(self, backbone: Any) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        assert adapter.attached_to(backbone)
        with pytest.raises(AlreadyAttachedError, match="attached already"):
            adapter.attach(backbone)

    def test_a_second_adapter_is_refused_even_on_other_layers(self, backbone: Any) -> None:
        first = self.new_adapter(backbone, layers=[0]).attach(backbone)
        before = [attention.processor for attention in family_of(backbone).attentions(backbone)]
        hooks = [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in backbone.modules()]
        for layers in ([0], [1]):
            second = self.new_adapter(backbone, layers=layers)
            with pytest.raises(AlreadyAttachedError, match=r"another Pinco adapter is attached .* \(layers \[0\]\)"):
                second.attach(backbone)
            assert not second.attached
        after = [attention.processor for attention in family_of(backbone).attentions(backbone)]
        assert all(processor is own for processor, own in zip(after, before, strict=True))
        assert [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in backbone.modules()] == hooks
        first.detach()
        self.new_adapter(backbone, layers=[1]).attach(backbone)

    def test_a_copy_is_attached_to_nothing(self, backbone: Any) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        twin = copy.deepcopy(adapter)
        assert adapter.attached and not twin.attached
        assert twin.layer(0).gate.value is not adapter.layer(0).gate.value

    @torch.no_grad()
    def test_a_copy_of_an_attached_backbone_is_the_bare_backbone(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        bare = self.call(backbone, inputs)
        own = [type(attention.processor) for attention in family_of(backbone).attentions(backbone)]
        adapter = self.new_adapter(backbone, layers=[0]).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        wanted = self.run(backbone, inputs, adapter, subject)
        twin = copy.deepcopy(backbone)
        assert [type(attention.processor) for attention in family_of(twin).attentions(twin)] == own
        with adapter.using(subject):
            assert torch.equal(self.call(twin, inputs), bare)
        assert torch.equal(self.run(backbone, inputs, adapter, subject), wanted)  # the original has not noticed
        assert adapter.attached_to(backbone) and not adapter.attached_to(twin)
        other = self.new_adapter(backbone, layers=[0]).attach(twin)
        assert torch.equal(self.run(twin, inputs, other, other.encode(*subject_inputs)), wanted)

    def test_a_foreign_processor_is_refused_and_nothing_is_changed(self, backbone: Any) -> None:
        number = self.replace_processor(backbone)
        attentions = family_of(backbone).attentions(backbone)
        before = [attention.processor for attention in attentions]
        adapter = self.new_adapter(backbone)
        with pytest.raises(ValueError, match=rf"layer {number} .* foreign attention processor"):
            adapter.attach(backbone)
        assert not adapter.attached
        assert all(attention.processor is own for attention, own in zip(attentions, before, strict=True))

    def test_processors_that_were_replaced_are_noticed(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        number = self.replace_processor(backbone)
        backbone(**inputs)
        with pytest.raises(AdapterNotAttachedError, match=rf"layer\(s\) \[{number}\] were replaced"):
            self.run(backbone, inputs, adapter, subject)

    def test_using_needs_a_backbone(self, backbone: Any, subject_inputs: tuple[Tensor, Tensor]) -> None:
        adapter = self.new_adapter(backbone)
        with pytest.raises(AdapterNotAttachedError, match="attach the adapter to its backbone before using it"):
            adapter.using(adapter.encode(*subject_inputs))

    # What does not fit is refused.

    def test_another_backbone_is_refused_naming_both(self, backbone: Any) -> None:
        adapter = self.new_adapter(backbone)
        name = adapter.settings.family
        for changes in self.other_sizes:
            other = self.new_backbone(**changes)
            attentions = family_of(other).attentions(other)
            before = [attention.processor for attention in attentions]
            with pytest.raises(BackboneMismatchError, match=rf"adapter:  family={name}[\s\S]*backbone: family={name}"):
                adapter.attach(other)
            assert not adapter.attached
            assert all(attention.processor is own for attention, own in zip(attentions, before, strict=True))

    def test_another_architecture_is_refused(self, backbone: Any) -> None:
        unet = UNet2DConditionModel(
            block_out_channels=(4,), norm_num_groups=2, cross_attention_dim=4, layers_per_block=1,
            down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), attention_head_dim=2,
        )  # fmt: skip
        with pytest.raises(UnknownFamilyError, match=f"known backbone families: .*{family_of(backbone).name}"):
            self.new_adapter(backbone).attach(unet)

    def test_a_vae_of_other_latents_is_refused(self, backbone: Any) -> None:
        config, message = self.other_vae
        with pytest.raises(ValueError, match=message):
            PincoAdapter.for_backbone(backbone, config)

    def test_a_subject_of_another_size_is_refused(self, backbone: Any, inputs: Inputs) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        latents, maps = self.new_subject_inputs(backbone)
        cut = maps.shape[-1] * 4 // 5
        subject = adapter.encode(latents[..., : latents.shape[-1] * 4 // 5], maps[..., :cut])
        with pytest.raises(ValueError, match="encoded for 4 x 4 tokens, the latents have"):
            self.run(backbone, inputs, adapter, subject)

    def test_a_batch_that_is_no_multiple_is_refused(self, backbone: Any, subject_inputs: tuple[Tensor, Tensor]) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        with pytest.raises(ValueError, match="2 subjects cannot be repeated to a batch of 3"), torch.no_grad():
            self.run(backbone, self.new_inputs(backbone, 3, SMALL), adapter, adapter.encode(*subject_inputs))

    # Cache, pruning and batches change nothing but speed.

    @pytest.mark.parametrize("prune", [False, True], ids=["all", "pruned"])
    @pytest.mark.parametrize("anchor", [True, False], ids=["anchored", "free"])
    @torch.no_grad()
    def test_cached_keys_and_values_equal_uncached_ones(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor], anchor: bool, prune: bool
    ) -> None:
        adapter = self.new_adapter(backbone, anchor=anchor, prune=prune).attach(backbone)
        subject = adapter.encode(*subject_inputs)
        cached = adapter.with_keys_values(subject)
        depth = len(adapter.settings.layers)
        assert cached.cache is not None and set(cached.cache) == set(range(depth))
        calls: list[int] = []
        for number in adapter.settings.layers:
            adapter.layer(number).register_forward_hook(lambda *_: calls.append(1))
        wanted = self.run(backbone, inputs, adapter, subject)
        assert len(calls) == depth
        torch.testing.assert_close(self.run(backbone, inputs, adapter, cached), wanted, atol=1e-6, rtol=0)
        assert len(calls) == depth  # the cached run projects nothing

    @torch.no_grad()
    def test_layers_with_closed_gates_are_left_out_of_the_cache(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        adapter.layer(1).gate.value.zero_()
        subject = adapter.encode(*subject_inputs, cache=True)
        assert subject.cache is not None and subject.cache[1] is None and subject.cache[0] is not None
        uncached = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        torch.testing.assert_close(self.run(backbone, inputs, adapter, subject), uncached, atol=1e-6, rtol=0)

    @torch.no_grad()
    def test_a_cache_that_was_made_at_scale_zero_serves_other_scales(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        adapter.scale = 0.0
        subject = adapter.encode(*subject_inputs, cache=True)
        adapter.scale = 1.0
        wanted = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        torch.testing.assert_close(self.run(backbone, inputs, adapter, subject), wanted, atol=1e-6, rtol=0)

    def test_caching_needs_the_backbones_positions(self, backbone: Any, subject_inputs: tuple[Tensor, Tensor]) -> None:
        with pytest.raises(AdapterNotAttachedError, match="attach the adapter"):
            self.new_adapter(backbone).encode(*subject_inputs, cache=True)

    def test_a_cached_subject_does_not_train(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs, cache=True)
        with pytest.raises(RuntimeError, match="carries no gradients"):
            self.run(backbone, inputs, adapter, subject)

    @torch.no_grad()
    def test_a_mask_that_covers_everything_prunes_nothing(self, backbone: Any, inputs: Inputs) -> None:
        latents, maps = self.new_subject_inputs(backbone)
        maps[:, 0] = 1
        outputs = []
        for prune in (False, True):
            adapter = self.new_adapter(backbone, prune=prune).attach(backbone)
            outputs.append(self.run(backbone, inputs, adapter, adapter.encode(latents, maps)))
            adapter.detach()
        torch.testing.assert_close(*outputs, atol=1e-6, rtol=0)

    @torch.no_grad()
    def test_pruning_is_the_same_as_masking_the_other_tokens_out(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        adapter = self.new_adapter(backbone, prune=True).attach(backbone)
        pruned = adapter.encode(*subject_inputs)
        assert pruned.tokens.shape[1] == 6 and pruned.keep is not None and int(pruned.keep.sum()) == 4 + 6
        every, spread = adapter.extractor(*subject_inputs)
        keep = torch.zeros(2, 20, dtype=torch.bool)
        for sample in range(2):
            assert pruned.index is not None
            keep[sample, pruned.index[sample][pruned.keep[sample]]] = True
        masked = self.run(backbone, inputs, adapter, Subject(every, pruned.grid, keep=keep, spread=spread))
        torch.testing.assert_close(self.run(backbone, inputs, adapter, pruned), masked, atol=1e-6, rtol=0)

    @torch.no_grad()
    def test_pruning_keeps_the_dilated_mask(self, backbone: Any, subject_inputs: tuple[Tensor, Tensor]) -> None:
        subject = self.new_adapter(backbone, prune=True, mask_dilation=1).encode(*subject_inputs)
        assert subject.index is not None and subject.keep is not None
        kept = subject.index[0][subject.keep[0]].tolist()  # 2 x 2 tokens at (1, 1) grow to all of rows and columns 0..3
        assert kept == [row * 5 + column for row in range(4) for column in range(4)]

    @torch.no_grad()
    def test_pruned_keys_sit_where_the_unpruned_ones_do(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor], seen_keys: dict[int, Tensor]
    ) -> None:
        adapter = self.new_adapter(backbone, layers=[0]).attach(backbone)
        pruned = adapter.encode(*subject_inputs)
        tokens, spread = adapter.extractor(*subject_inputs)
        self.run(backbone, inputs, adapter, Subject(tokens, SMALL, spread=spread))
        all_keys = seen_keys[0]
        self.run(backbone, inputs, adapter, pruned)
        pruned_keys = seen_keys[0]
        assert pruned.index is not None and pruned.keep is not None
        for sample in range(2):
            kept = pruned.keep[sample]
            wanted = all_keys[sample][pruned.index[sample][kept]]
            torch.testing.assert_close(pruned_keys[sample][kept], wanted, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
    @torch.no_grad()
    def test_a_sample_does_not_feel_its_neighbours_padding(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor], cache: bool
    ) -> None:
        """Several prompts, noises and subjects in a batch, equal one by one."""
        adapter = self.new_adapter(backbone).attach(backbone)
        together = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs, cache=cache))
        for sample in range(2):
            part = slice(sample, sample + 1)
            subject = adapter.encode(subject_inputs[0][part], subject_inputs[1][part], cache=cache)
            assert subject.keep is None
            alone = self.run(backbone, self.part(inputs, part), adapter, subject)
            torch.testing.assert_close(alone, together[part], atol=1e-5, rtol=0)

    @pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
    @torch.no_grad()
    def test_subjects_of_several_lengths_need_no_mask(
        self,
        backbone: Any,
        inputs: Inputs,
        subject_inputs: tuple[Tensor, Tensor],
        cache: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """As on accelerators: the samples are attended to in runs of equal length. Also in a doubled batch."""
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs, cache=cache)
        assert subject.lengths == (4, 6)
        doubled = self.doubled(inputs)
        wanted = self.run(backbone, doubled, adapter, subject)
        monkeypatch.setattr(attention, "MASKING_DEVICES", ())
        asked: list[Any] = []
        runs_of = attention.runs_of
        monkeypatch.setattr(attention, "runs_of", lambda lengths: asked.append(lengths) or runs_of(lengths))
        torch.testing.assert_close(self.run(backbone, doubled, adapter, subject), wanted, atol=1e-5, rtol=0)
        assert set(asked) == {(4, 6, 4, 6)} and len(asked) == len(adapter.settings.layers)

    @torch.no_grad()
    def test_the_backend_of_the_bare_layers_decides_the_kernel(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the original processor has one; the others always call PyTorch's attention."""
        monkeypatch.setattr(_AttentionBackendRegistry, "_active_backend", AttentionBackendName.NATIVE)
        originals = [attention.processor for attention in family_of(backbone).attentions(backbone)]
        adapter = self.new_adapter(backbone).attach(backbone)
        backbone.set_attention_backend("_native_math")
        asked: list[str] = []
        choose = attention.kernel_for

        def watch(q: Tensor, *, backend: str, **wanted: bool) -> Any:
            asked.append(backend)
            return choose(q, backend=backend, **wanted)

        monkeypatch.setattr(attention, "kernel_for", watch)
        self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        entered = (one.processor for one in adapter.attentions().values())
        if any(processor.form == "separate" for processor in entered):
            assert asked == []  # nothing to merge
        else:
            set_ = hasattr(originals[0], "_attention_backend")
            assert set(asked) == {"_native_math" if set_ else "native"}

    @torch.no_grad()
    def test_one_cached_subject_serves_a_batch(self, backbone: Any, inputs: Inputs) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        latents, maps = self.new_subject_inputs(backbone, 1)
        one = adapter.encode(latents, maps, cache=True)
        twice = adapter.encode(latents.repeat(2, 1, 1, 1), maps.repeat(2, 1, 1, 1))
        wanted = self.run(backbone, inputs, adapter, twice)
        torch.testing.assert_close(self.run(backbone, inputs, adapter, one), wanted, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
    @torch.no_grad()
    def test_a_doubled_batch_takes_the_subjects_twice(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor], cache: bool
    ) -> None:
        """Classifier-free guidance in one call: `torch.cat([x] * 2)`, two different subjects."""
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs, cache=cache)
        wanted = self.run(backbone, inputs, adapter, subject)
        doubled = self.run(backbone, self.doubled(inputs), adapter, subject)
        torch.testing.assert_close(doubled, torch.cat([wanted] * 2), atol=1e-5, rtol=0)

    # Training.

    def test_at_the_start_only_the_gates_learn(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        """Zero gates still get their gradients; what lies behind them follows when they have moved."""
        adapter = close_gates(self.new_adapter(backbone)).attach(backbone)
        bare = self.call(backbone, inputs)
        out = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        torch.testing.assert_close(out, bare, atol=1e-6, rtol=0)
        out.square().mean().backward()
        for name, parameter in adapter.named_parameters():
            assert parameter.grad is not None
            assert bool(parameter.grad.any()) is name.endswith("gate.value"), name

    def test_a_training_step_moves_the_gates_and_leaves_the_backbone(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        adapter = close_gates(self.new_adapter(backbone)).attach(backbone)
        state = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        optimiser = torch.optim.AdamW(adapter.parameter_groups(lr=1e-2))
        losses = []
        for _ in range(4):
            optimiser.zero_grad()
            loss = (self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs)) - 1).square().mean()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert all(bool(gate.all()) for gate in adapter.gates().values())
        assert losses[-1] < losses[0]
        assert all(torch.equal(tensor, state[name]) for name, tensor in backbone.state_dict().items())
        assert all(parameter.grad is None for parameter in backbone.parameters())

    @pytest.mark.parametrize("prune", [False, True], ids=["all", "pruned"])
    def test_gradient_checkpointing_gives_equal_gradients(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor], prune: bool
    ) -> None:
        if not self.checkpointing:
            assert not backbone._supports_gradient_checkpointing
            return
        adapter = self.new_adapter(backbone, prune=prune).attach(backbone)
        gradients = []
        for checkpointing in (False, True):
            if checkpointing:
                backbone.enable_gradient_checkpointing()
            adapter.zero_grad()
            out = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
            with torch.no_grad():  # what happens in between must not reach the layers that run again
                self.run(backbone, inputs, adapter, adapter.encode(-subject_inputs[0], subject_inputs[1]))
                backbone(**inputs)
            out.square().mean().backward()
            gradients.append({name: parameter.grad for name, parameter in adapter.named_parameters()})
        for name, wanted in gradients[0].items():
            assert wanted is not None and bool(wanted.any()), name
            assert torch.equal(gradients[1][name], wanted), name

    def test_checkpointed_forwards_of_several_subjects_never_mix(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        """Two forwards before one backward: right gradients where the call carries the subject, refused elsewhere."""
        if not self.checkpointing:
            return
        adapter = self.new_adapter(backbone).attach(backbone)

        def loss() -> Tensor:
            first = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
            second = self.run(backbone, inputs, adapter, adapter.encode(-subject_inputs[0], subject_inputs[1]))
            return first.square().mean() + 2 * second.square().mean()

        gate = adapter.layer(0).gate.value
        (wanted,) = torch.autograd.grad(loss(), gate)
        backbone.enable_gradient_checkpointing()
        if family_of(backbone).attention_argument is None:
            with pytest.raises(RuntimeError, match="go backward after each forward"):
                torch.autograd.grad(loss(), gate)
        else:
            assert torch.equal(torch.autograd.grad(loss(), gate)[0], wanted)

    def test_optimiser_groups_hold_every_weight_once(self, backbone: Any) -> None:
        adapter = self.new_adapter(backbone)
        projections, gates = adapter.parameter_groups(lr=1e-3)
        assert (projections["lr"], gates["lr"], gates["weight_decay"]) == (1e-3, 1e-2, 0.0)
        assert len(gates["params"]) == len(adapter.settings.layers)
        held = [id(parameter) for group in (projections, gates) for parameter in group["params"]]
        assert sorted(held) == sorted(id(parameter) for parameter in adapter.parameters())
        torch.optim.AdamW(adapter.parameter_groups(lr=1e-3, gate_lr_scale=2.0))

    # The start from the backbone, saving and loading.

    @torch.no_grad()
    def test_the_first_layer_starts_as_the_backbone_sees_a_clean_image(
        self, backbone: Any, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        """K_sub and V_sub of layer 0 are the backbone's own K and V of the subject's latents, free of noise."""
        adapter = PincoAdapter.for_backbone(backbone, self.vae_config, shape="none", prune=False)
        keys, values = adapter.layer(0)(adapter.encode(*subject_inputs).tokens)
        own = self.own_keys_values(backbone, self.first_layer_input(backbone, subject_inputs[0]))
        torch.testing.assert_close(keys, own[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(values, own[1], atol=1e-4, rtol=1e-4)

    @torch.no_grad()
    def test_the_embedder_maps_packed_tokens(self, backbone: Any, subject_inputs: tuple[Tensor, Tensor]) -> None:
        family = family_of(backbone)
        embedder, dims = family.embedder(backbone), family.dims(backbone, self.vae_config)
        assert embedder.weight.shape == (dims.inner_dim, dims.token_channels)
        tokens = self.new_adapter(backbone, shape="none", prune=False).encode(*subject_inputs).tokens
        mapped = pack(subject_inputs[0], dims.patch_size) @ embedder.weight.T + embedder.bias
        wanted = torch.nn.functional.layer_norm(mapped, (dims.inner_dim,), eps=1e-6)
        torch.testing.assert_close(tokens, wanted, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("options", [{}, {"rank": 3, "gate": "layer", "layers": [1], "shape": "vae"}])
    def test_saving_and_loading(self, backbone: Any, tmp_path: Path, options: dict[str, Any]) -> None:
        adapter = self.new_adapter(backbone, **options).attach(backbone)
        adapter.scale = 0.25
        adapter.save_pretrained(tmp_path)
        stored = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
        assert set(stored) == {name for name, _ in adapter.named_parameters()}  # nothing of the backbone, no buffers
        loaded = PincoAdapter.from_pretrained(tmp_path)
        assert loaded.settings == adapter.settings and loaded.scale == 1.0 and not loaded.attached
        for name, parameter in loaded.named_parameters():
            assert torch.equal(parameter, stored[name])
        adapter.detach()
        loaded.attach(backbone)

    @torch.no_grad()
    def test_a_loaded_adapter_does_what_the_saved_one_did(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        wanted = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        adapter.save_pretrained(tmp_path)
        adapter.detach()
        loaded = PincoAdapter.from_pretrained(tmp_path).attach(backbone)
        assert torch.equal(self.run(backbone, inputs, loaded, loaded.encode(*subject_inputs)), wanted)

    def test_an_unknown_family_is_refused(self, backbone: Any, tmp_path: Path) -> None:
        self.new_adapter(backbone).save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"family": "sd9"}))
        with pytest.raises(UnknownFamilyError, match=rf"unknown backbone family 'sd9'; known: .*{config['family']}"):
            PincoAdapter.from_pretrained(tmp_path)

    # Precision, compiler, offload.

    @torch.no_grad()
    def test_in_bfloat16(self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]) -> None:
        adapter = self.new_adapter(backbone).attach(backbone)
        wanted = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        backbone.to(torch.bfloat16)
        half = self.half(inputs)
        # An adapter in training precision, and one cast with its backbone.
        for dtype in (torch.float32, torch.bfloat16):
            for cache in (False, True):
                subject = adapter.to(dtype).encode(*subject_inputs, cache=cache)
                out = self.run(backbone, half, adapter, subject)
                assert out.dtype == torch.bfloat16
                assert float((out.float() - wanted).norm() / wanted.norm()) < 0.05

    @torch.no_grad()
    def test_compiled_once_for_all_steps_scales_and_subjects(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        torch._dynamo.reset()
        adapter = self.new_adapter(backbone).attach(backbone)
        counter = CompileCounter()
        compiled = torch.compile(backbone, backend=counter)
        latents, maps = subject_inputs
        subject, other = (adapter.encode(part, maps, cache=True) for part in (latents, -latents))
        wanted = self.run(backbone, inputs, adapter, subject)
        torch.testing.assert_close(self.run(compiled, inputs, adapter, subject), wanted, atol=1e-5, rtol=0)
        frames = counter.frame_count
        assert frames > 0
        for step, scale in enumerate((0.9, 0.5, 0.2)):
            adapter.scale = scale
            changed = inputs | {self.timestep: inputs[self.timestep] / (step + 2)}
            out = self.run(compiled, changed, adapter, other if step else subject)
            wanted = self.run(backbone, changed, adapter, other if step else subject)
            torch.testing.assert_close(out, wanted, atol=1e-5, rtol=0)
        assert counter.frame_count == frames
        torch._dynamo.reset()

    @torch.no_grad()
    def test_repeated_blocks_compile_to_as_many_graphs_whatever_the_depth(self) -> None:
        if self.repeated is None:
            return
        counts = []
        for changes in self.depths:
            torch._dynamo.reset()
            backbone = self.new_backbone(**changes)
            backbone._repeated_blocks = backbone._repeated_blocks or self.repeated
            adapter = self.new_adapter(backbone).attach(backbone)
            inputs, (latents, maps) = self.new_inputs(backbone, 2, SMALL), self.new_subject_inputs(backbone)
            subjects = [adapter.encode(one, maps, cache=True) for one in (latents, -latents)]
            wanted = [self.run(backbone, inputs, adapter, subject) for subject in subjects]
            counter = CompileCounter()
            backbone.compile_repeated_blocks(backend=counter, fullgraph=True)
            for subject, eager in zip(subjects, wanted, strict=True):
                torch.testing.assert_close(self.run(backbone, inputs, adapter, subject), eager, atol=1e-5, rtol=0)
            counts.append(counter.frame_count)
        torch._dynamo.reset()
        assert counts[0] == counts[1] > 0

    @torch.no_grad()
    def test_a_compiled_object_is_the_backbone_inside_of_it(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        torch._dynamo.reset()
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs, cache=True)
        wanted = self.run(backbone, inputs, adapter, subject)
        adapter.detach()
        counter = CompileCounter()
        compiled = torch.compile(backbone, backend=counter, fullgraph=True)
        other = self.new_adapter(compiled).attach(compiled)
        assert other.attached_to(compiled) and other.attached_to(backbone)
        torch.testing.assert_close(self.run(compiled, inputs, other, subject), wanted, atol=1e-5, rtol=0)
        assert counter.frame_count == 1
        torch._dynamo.reset()

    @torch.no_grad()
    def test_nothing_of_a_subject_is_held_after_a_call(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        """Not even after a call that fails: a canvas that is forgotten frees its memory."""
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs, cache=True)
        gone = weakref.ref(subject)
        self.run(backbone, inputs, adapter, subject)
        del subject
        assert gone() is None
        subject = adapter.encode(*subject_inputs, cache=True)
        gone = weakref.ref(subject)
        broken = adapter.attentions()[1].register_forward_hook(_fail)
        with pytest.raises(OSError, match="in the middle"):
            self.run(backbone, inputs, adapter, subject)
        broken.remove()
        del subject
        gc.collect()  # the error's traceback goes in circles
        assert gone() is None

    @pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
    @torch.no_grad()
    def test_sequential_offload_of_backbone_and_adapter(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor], cache: bool
    ) -> None:
        """Weights lie on the meta device except while their module runs: nothing may read them in between."""
        adapter = self.new_adapter(backbone).attach(backbone)
        wanted = self.run(backbone, inputs, adapter, adapter.encode(*subject_inputs))
        self.offload(backbone)
        cpu_offload(adapter, execution_device=torch.device("cpu"))
        assert all(parameter.is_meta for parameter in adapter.parameters())
        subject = adapter.encode(*subject_inputs, cache=cache)
        torch.testing.assert_close(self.run(backbone, inputs, adapter, subject), wanted, atol=1e-6, rtol=0)

    @torch.no_grad()
    def test_an_adapter_for_an_offloaded_backbone_is_that_for_a_resident_one(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        resident = self.new_adapter(backbone).attach(backbone)
        wanted = self.run(backbone, inputs, resident, resident.encode(*subject_inputs))
        resident.detach()
        self.offload(backbone)
        adapter = self.new_adapter(backbone)
        for (name, own), other in zip(adapter.named_parameters(), resident.parameters(), strict=True):
            assert torch.equal(own, other), name
        adapter.attach(backbone)
        assert all(parameter.is_meta for parameter in backbone.parameters())
        subject = adapter.encode(*subject_inputs, cache=True)
        torch.testing.assert_close(self.run(backbone, inputs, adapter, subject), wanted, atol=1e-6, rtol=0)

    # LoRAs of the backbone.

    @torch.no_grad()
    def test_a_lora_works_under_the_adapter_and_the_adapter_over_the_lora(
        self, backbone: Any, inputs: Inputs, subject_inputs: tuple[Tensor, Tensor]
    ) -> None:
        if not isinstance(backbone, PeftAdapterMixin):
            return
        adapter = self.new_adapter(backbone).attach(backbone)
        subject = adapter.encode(*subject_inputs, cache=True)
        without = self.run(backbone, inputs, adapter, subject)
        self.add_lora(backbone)
        tuned = self.run(backbone, inputs, adapter, subject)
        assert float((tuned - without).norm() / without.norm()) > 0.01
        assert float((tuned - self.call(backbone, inputs)).norm() / without.norm()) > 0.01
        backbone.fuse_lora()
        torch.testing.assert_close(self.run(backbone, inputs, adapter, subject), tuned, atol=1e-4, rtol=1e-3)
        backbone.unfuse_lora()
        backbone.disable_lora()
        torch.testing.assert_close(self.run(backbone, inputs, adapter, subject), without, atol=1e-4, rtol=1e-3)
        backbone.unload_lora()
        torch.testing.assert_close(self.run(backbone, inputs, adapter, subject), without, atol=1e-4, rtol=1e-3)

    def test_an_adapter_starts_from_what_lies_below_a_lora(self, backbone: Any) -> None:
        if not isinstance(backbone, PeftAdapterMixin):
            return
        bare = self.new_adapter(backbone)
        self.add_lora(backbone)
        adapter = self.new_adapter(backbone)
        for (name, own), other in zip(adapter.named_parameters(), bare.parameters(), strict=True):
            assert torch.equal(own, other), name
        adapter.attach(backbone).detach()

    # The anchor (Pinco, section 3.3).

    @pytest.mark.parametrize("shift", [(0, 1), (2, 0), (1, 3)])
    @torch.no_grad()
    def test_the_attention_map_moves_with_the_subject_only_if_anchored(
        self, backbone: Any, seen_keys: dict[int, Tensor], shift: tuple[int, int]
    ) -> None:
        """A subject of three equal tokens, looked at by one and the same query from every latent token.

        Rotary scores depend on differences of places alone, so the whole map shifts; with an added table its peaks do.
        """
        rows, columns = LARGE
        down, right = shift
        here = torch.tensor([[0 * columns + 1, 1 * columns + 1, 2 * columns + 3]])
        there = here + down * columns + right
        inputs = self.new_inputs(backbone, 1, LARGE)
        for anchor in (True, False):
            adapter = self.new_adapter(backbone, anchor=anchor).attach(backbone)
            positions = self.positions(adapter, LARGE)
            assert positions is not None
            content = torch.zeros(1, 1, adapter.settings.subject_dim)
            if isinstance(positions, Rotary):
                content = torch.randn(content.shape, generator=torch.Generator().manual_seed(7))
            scores = []
            for at in (here, there):
                seen_keys.clear()
                self.run(backbone, inputs, adapter, Subject(content.expand(1, 3, -1), LARGE, index=at))
                everywhere = Subject(content.expand(1, rows * columns, -1), LARGE)
                queries = [keys_values(adapter.layer(n), everywhere, positions)[0] for n in adapter.settings.layers]
                assert set(seen_keys) == set(adapter.settings.layers)  # every layer was seen
                keys = torch.stack([seen_keys[n][0] for n in adapter.settings.layers]).transpose(1, 2)
                query = torch.stack(queries)[:, 0].transpose(1, 2)
                if not isinstance(positions, Rotary):  # by direction: equal ones meet where the places are equal
                    query, keys = (torch.nn.functional.normalize(x, dim=-1) for x in (query, keys))
                scores.append(query @ keys.transpose(-1, -2))  # [layers, heads, N, 3]
            adapter.detach()
            before, after = scores
            if not anchor:
                assert torch.equal(after, before)
            elif isinstance(positions, Rotary):
                before, after = (score.unflatten(2, LARGE) for score in scores)
                overlap = before[:, :, : rows - down, : columns - right]
                rounding = max(1e-4, 2e-5 * float(overlap.abs().max()))
                torch.testing.assert_close(after[:, :, down:, right:], overlap, atol=rounding, rtol=0)
                assert float((after - before).abs().max()) > 0.05
            else:
                peaks = [score.argmax(dim=2) for score in scores]
                assert torch.equal(peaks[0], here.expand_as(peaks[0]))
                assert torch.equal(peaks[1], there.expand_as(peaks[1]))


class CachedSteps:
    """Steps of one input under a cache of blocks or attentions: what is computed in them sees its own keys.

    Attributes:
        layers: The layers that ran, for each step so far.
        wanted: The output without a cache.
    """

    def __init__(self, suite: AdapterSuite, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run the backbone of a suite once without a cache."""
        self._suite, self.layers = suite, list[set[int]]()
        self.backbone = suite.new_backbone()
        self.adapter = suite.new_adapter(self.backbone).attach(self.backbone)
        self._inputs = suite.new_inputs(self.backbone, 2, SMALL)
        self._subject = self.adapter.encode(*suite.new_subject_inputs(self.backbone), cache=True)
        bare = suite.call(self.backbone, self._inputs)
        self._seen = watch_keys(monkeypatch)
        self.wanted = suite.run(self.backbone, self._inputs, self.adapter, self._subject)
        self._every = dict(self._seen)
        self._tolerance = 0.01 * float((bare - self.wanted).norm())

    def step(self) -> Tensor:
        """The same input once more: what a cache remembers of it is what would be computed."""
        self._seen.clear()
        out = self._suite.run(self.backbone, self._inputs, self.adapter, self._subject)
        assert float((out - self.wanted).norm()) < self._tolerance
        self.layers.append(set(self._seen))
        for number, keys in self._seen.items():
            assert torch.equal(keys, self._every[number])
            if self._subject.anchored:
                assert self._subject.cache is not None and self._subject.cache[number] is not None
                assert torch.equal(keys, tile(self._subject.cache[number][0], 2))
        return out
