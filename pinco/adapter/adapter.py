"""`PincoAdapter`: the trained part of the method, put onto a frozen backbone and taken off again.

Lu et al., "Pinco: Position-induced Consistent Adapter for Diffusion Transformer in Foreground-conditioned Inpainting",
ICCV 2025, arXiv 2412.03812.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.torch_utils import unwrap_module
from torch import Tensor, nn

from pinco.adapter.attachment import AdapterNotAttachedError, AlreadyAttachedError, Attachment
from pinco.adapter.backbone import at_hand, without_loras
from pinco.adapter.choice import Layers, Rank, adapter_config
from pinco.adapter.config import (
    BackboneMismatchError,
    GateKind,
    KeyNorm,
    Mix,
    PincoConfig,
    Semantic,
    SemanticInit,
    Shape,
    upgraded,
)
from pinco.adapter.extractor import SubjectExtractor
from pinco.adapter.families import family_named, family_of
from pinco.adapter.layer import SubjectLayer
from pinco.adapter.positions import Positions
from pinco.adapter.processor import keys_values
from pinco.adapter.subject import KeyValue, Subject
from pinco.adapter.tokens import covered_tokens, gather, select
from pinco.weight_files import SafetensorsOnly


class PincoAdapter(SafetensorsOnly, ModelMixin, ConfigMixin):
    """Extractor, subject projections and gates for one backbone.

    Made by `for_backbone`, or loaded by `from_pretrained`. `attach` puts it onto a transformer; inside
    `with adapter.using(subject) as kwargs` that transformer, or its pipeline called with `kwargs`, sees the subject.
    Its weights stay its own: they never enter the backbone's state dict. A deep copy is not attached to anything, and a
    deep copy of the backbone has no adapter.
    """

    scale_factor: Tensor

    @register_to_config
    def __init__(
        self,
        family: str,
        inner_dim: int,
        num_heads: int,
        head_dim: int,
        depth: int,
        latent_channels: int,
        patch_size: int,
        vae_scale_factor: int,
        layers: tuple[int, ...],
        subject_dim: int,
        rank: int | None = None,
        gate: GateKind = "head",
        anchor: bool = True,
        prune: bool = True,
        mask_dilation: int = 1,
        semantic: Semantic = "vae",
        shape: Shape = "conv",
        use_mask: bool = True,
        use_depth: bool = True,
        use_sobel: bool = True,
        mix: Mix = "one",
        shape_channels: int = 64,
        key_norm: KeyNorm = "rms",
    ) -> None:
        """Build an adapter with random projections and zero gates; `for_backbone` also reads the backbone.

        Args:
            family: The backbone's family; this and the following seven, and `key_norm`, are the backbone's dimensions.
            inner_dim: See `BackboneDims`.
            num_heads: See `BackboneDims`.
            head_dim: See `BackboneDims`.
            depth: See `BackboneDims`.
            latent_channels: See `BackboneDims`.
            patch_size: See `BackboneDims`.
            vae_scale_factor: See `BackboneDims`.
            layers: Numbers of the adapted attention layers, in the family's order.
            subject_dim: Width of the subject tokens F.
            rank: Of the subject projections; `None` is full rank.
            gate: One gate per "head", or one per "layer".
            anchor: Subject keys carry the positions of their latent tokens; without it they carry none.
            prune: Keep subject tokens only under the mask.
            mask_dilation: Grow the mask by that many tokens before pruning.
            semantic: The extractor's branch for the subject's latents.
            shape: The extractor's branch for the maps; "vae" encodes them with the VAE instead of convolutions.
            use_mask: The shape branch sees the mask. Pruning reads it in any case.
            use_depth: The shape branch sees the depth map.
            use_sobel: The shape branch sees the Sobel map.
            mix: The backbone's share of the attention, "one" for a = 1, "complement" for a = 1 - b.
            shape_channels: Features of the convolutional shape branch.
            key_norm: See `BackboneDims`.

        Raises:
            UnknownFamilyError: No family has this name.
            ValueError: Values that cannot work together.
        """
        super().__init__()
        self.settings = PincoConfig.from_registered(self.config)
        family_named(family)
        self.extractor = SubjectExtractor(self.settings)
        self.subject_layers = nn.ModuleDict(
            {str(number): SubjectLayer(self.settings) for number in self.settings.layers}
        )
        # A buffer, not a float: torch.compile would compile anew for every value of a float.
        self.register_buffer("scale_factor", torch.ones(()), persistent=False)
        self._disabled = False
        self._attachment: Attachment | None = None

    @classmethod
    def from_config(cls, config: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As diffusers' own, and for adapters saved by any version."""
        return super().from_config(upgraded(config) if isinstance(config, Mapping) else config, *args, **kwargs)

    @classmethod
    def for_backbone(
        cls,
        transformer: Any,
        vae_config: Mapping[str, Any] | None,
        *,
        layers: Layers = "all",
        subject_dim: int | None = None,
        rank: Rank = "auto",
        init_semantic: SemanticInit = "backbone",
        **options: Any,
    ) -> Self:
        """A new adapter whose sizes and starting weights come from the backbone.

        Args:
            transformer: The backbone.
            vae_config: `vae.config`; `None` assumes the family's usual VAE.
            layers: "all", a name of the family's for a group of layers, or layer numbers.
            subject_dim: The backbone's width unless given. Another width leaves the subject projections random.
            rank: Of the subject projections; `None` is full rank, "auto" is full for small backbones and 128 for those
                wider than 1024 (`pinco.adapter.choice.usual_rank` says why).
            init_semantic: "backbone" starts the semantic branch from the backbone's patch embedder (see
                `SubjectExtractor.start_from_embedder`) and folds each layer's noise-free input modulation into its
                subject projections, so that the first layer's K_sub and V_sub start as the backbone's own K and V of a
                clean image token and the deeper ones near them. "random" leaves the extractor as drawn and takes the
                projections as they are.
            options: The remaining arguments of `__init__`, without those read from the backbone.

        Raises:
            UnknownFamilyError: A backbone of no known family.
            ValueError: Options that contradict each other.
        """
        transformer = unwrap_module(transformer)
        config = adapter_config(transformer, vae_config, layers=layers, subject_dim=subject_dim, rank=rank)
        width, own_width = config["subject_dim"], config["inner_dim"]
        if init_semantic not in ("backbone", "random"):
            raise ValueError(f"init_semantic must be backbone or random, not {init_semantic!r}")
        if init_semantic == "backbone" and width != own_width:
            raise ValueError(
                f"init_semantic='backbone' needs tokens as wide as the backbone ({own_width}), not {width}: "
                "leave subject_dim out or choose init_semantic='random'"
            )
        adapter: Self = cls(**config, **options)
        if width == own_width:
            with without_loras(transformer):
                adapter._start_from(transformer, from_embedder=init_semantic == "backbone" and adapter.semantic_branch)
        return adapter

    def _start_from(self, transformer: Any, *, from_embedder: bool) -> None:
        family = family_named(self.settings.family)
        attentions = family.attentions(transformer)
        modulations = family.clean_modulations(transformer) if from_embedder else None
        if from_embedder:
            embedder = family.embedder(transformer)
            self.extractor.start_from_embedder(embedder.weight, embedder.bias)
        for number in self.settings.layers:
            key, value = family.key_value(attentions[number])
            if modulations is not None:
                key, value = key.after_modulation(*modulations[number]), value.after_modulation(*modulations[number])
            norm = family.key_norm(attentions[number])
            with nullcontext() if norm is None else at_hand(norm):
                self.layer(number).start_from(key, value, norm)

    @property
    def semantic_branch(self) -> bool:
        """Whether subject tokens carry the subject's own latents."""
        return self.settings.semantic == "vae"

    @property
    def anchor(self) -> bool:
        """Whether the subject keys carry the positions of their latent tokens."""
        return self.settings.anchor

    @property
    def disabled(self) -> bool:
        """Whether `scale` is zero."""
        return self._disabled

    @property
    def attached(self) -> bool:
        """Whether the adapter sits on a backbone."""
        return self._attachment is not None

    def attached_to(self, transformer: Any) -> bool:
        """Whether the adapter sits on this very backbone."""
        return self._attachment is not None and self._attachment.transformer is unwrap_module(transformer)

    def attentions(self) -> dict[int, nn.Module]:
        """The backbone's adapted attention modules by layer number.

        Raises:
            AdapterNotAttachedError: The adapter is not attached.
        """
        attachment = self._attached("asking for the backbone's layers")
        modules = attachment.family.attentions(attachment.transformer)
        return {number: modules[number] for number in self.settings.layers}

    def positions(self, grid: tuple[int, int], device: Any) -> Positions | None:
        """The positions that the backbone gives an image of `grid` tokens, where the grid alone decides them.

        Raises:
            AdapterNotAttachedError: The adapter is not attached.
        """
        return self._attached("asking for the backbone's positions").positions(grid, device)

    def using(self, subject: Subject) -> AbstractContextManager[dict[str, Any]]:
        """Let the backbone see a subject: `with adapter.using(subject) as kwargs: pipe(prompt, **kwargs)`.

        Args:
            subject: One for all images of the call, or one for each; a batch that is doubled for classifier-free
                guidance takes them twice.

        Returns:
            A context manager that yields keyword arguments for the family's pipelines and transformer. They may be
            empty: keep the call inside the block.

        Raises:
            AdapterNotAttachedError: The adapter is not attached.
        """
        return self._attached("using it").using(subject)

    def _attached(self, wanted: str) -> Attachment:
        if self._attachment is None:
            raise AdapterNotAttachedError(f"attach the adapter to its backbone before {wanted}")
        return self._attachment

    def layer(self, number: int) -> SubjectLayer:
        """The adapter's part of one attention layer."""
        layer = self.subject_layers[str(number)]
        assert isinstance(layer, SubjectLayer)
        return layer

    def weights(self, layer: SubjectLayer) -> tuple[Tensor, Tensor]:
        """`a` and `b` of the attention equation (`pinco.adapter.attention`); they broadcast to `[B, H, S, D]`."""
        b = layer.gate(self.scale_factor)
        return (1 - b if self.settings.mix == "complement" else torch.ones_like(self.scale_factor)), b

    @property
    def scale(self) -> float:
        """Strength of the adapter, 0 (the bare backbone, bit for bit) to 1 (as trained).

        Raises:
            ValueError: A value outside of 0..1. Beyond 1, b may fall below -1, where the backbone's share of the merged
                attention turns negative and the fused backward pass is not defined.
        """
        return float(self.scale_factor)

    @scale.setter
    def scale(self, value: float) -> None:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"scale must lie between 0 and 1, not {value}")
        self.scale_factor.fill_(value)
        self._disabled = value == 0.0

    def gates(self) -> dict[int, Tensor]:
        """`tanh(g)` of every adapted layer, `[H]` or `[1]`: what the adapter has learnt to let in."""
        gates = {}
        for number in self.settings.layers:
            with at_hand(self.layer(number).gate):
                gates[number] = torch.tanh(self.layer(number).gate.value.detach())
        return gates

    def encode(
        self, subject_latents: Tensor, maps: Tensor, *, shape_latents: Tensor | None = None, cache: bool = False
    ) -> Subject:
        """Subject tokens from the subject's latents and shape maps.

        Args:
            subject_latents: `[B, C, h, w]`, the VAE's latents of the subject on a neutral ground, shifted and scaled as
                the backbone takes them.
            maps: `[B, 3, H, W]` float in 0..1, ordered mask, depth, Sobel, at `vae_scale_factor` times the latents'
                size.
            shape_latents: `[B, C, h, w]`, only for `shape="vae"`: latents of `extractor.shape_image(maps)`.
            cache: Also compute K_sub and V_sub of all layers, without gradients; the adapter must be attached.

        Raises:
            ValueError: Shapes that do not fit together, or a mask that covers no token.
        """
        self._check_inputs(subject_latents, maps)
        dims = self.settings.backbone
        # The buffer's device: where weights are offloaded, they wait on another one than they compute on.
        device, dtype = self.scale_factor.device, self.extractor.input.weight.dtype
        latents, maps = subject_latents.to(device, dtype), maps.to(device, dtype)
        shape_latents = None if shape_latents is None else shape_latents.to(device, dtype)
        tokens, spread = self.extractor(latents, maps, shape_latents)
        grid = (latents.shape[2] // dims.patch_size, latents.shape[3] // dims.patch_size)
        subject = Subject(tokens, grid, spread=spread)
        if self.settings.prune:
            covered = covered_tokens(maps[:, :1], dims.token_stride, self.settings.mask_dilation)
            index, keep = select(covered)
            lengths = None if keep is None else tuple(keep.sum(dim=1).tolist())
            kept, spread = gather(tokens, index), gather(spread, index)
            subject = Subject(kept, grid, index, keep, lengths=lengths, spread=spread)
        return self.with_keys_values(subject) if cache else subject

    @torch.no_grad()
    def with_keys_values(self, subject: Subject) -> Subject:
        """The subject with K_sub and V_sub of every layer.

        They depend on neither timestep nor prompt nor guidance branch, so one computation serves all steps, prompts and
        seeds. Layers with zero gates are marked and left out. Where the grid alone decides the backbone's positions,
        the keys are anchored to those of an image of the subject's grid.

        Raises:
            AdapterNotAttachedError: The adapter is not attached: the positions are the backbone's to give.
        """
        attachment = self._attached("caching keys and values")
        positions = attachment.positions(subject.grid, subject.tokens.device) if self.anchor else None
        cache: dict[int, KeyValue | None] = {}
        for number in self.settings.layers:
            layer = self.layer(number)
            active = bool(layer.gate(torch.ones_like(self.scale_factor)).any())
            cache[number] = keys_values(layer, subject, positions) if active else None
        return replace(subject, cache=cache, anchored=positions is not None)

    def _check_inputs(self, latents: Tensor, maps: Tensor) -> None:
        dims = self.settings.backbone
        if not latents.is_floating_point() or not maps.is_floating_point():
            raise ValueError(f"latents and maps must be floating point, not {latents.dtype} and {maps.dtype}")
        if latents.ndim != 4 or latents.shape[1] != dims.latent_channels:
            raise ValueError(f"latents must be [B, {dims.latent_channels}, h, w], not {tuple(latents.shape)}")
        wanted = (latents.shape[0], 3, *(side * dims.vae_scale_factor for side in latents.shape[2:]))
        if tuple(maps.shape) != wanted:
            raise ValueError(f"maps must be {wanted} for latents {tuple(latents.shape)}, not {tuple(maps.shape)}")

    def attach(self, transformer: Any) -> Self:
        """Enter the attention layers of `transformer`, in place.

        A backbone may be compiled before or after, whole (`torch.compile`) or by its blocks
        (`compile_repeated_blocks`): attached to the object that `torch.compile` returns, the adapter sits on the
        backbone inside of it.

        Raises:
            BackboneMismatchError: A backbone of other sizes; both configurations are named.
            UnknownFamilyError: A backbone of no known family.
            ValueError: Foreign attention processors are in place.
            AlreadyAttachedError: The adapter is attached already, or another one to this backbone.
            ParallelBackboneError: The backbone is split over several devices.
        """
        if self._attachment is not None:
            raise AlreadyAttachedError("this adapter is attached already; detach it first")
        transformer = unwrap_module(transformer)
        family = family_of(transformer)
        found = family.dims(transformer, None)
        found = replace(found, vae_scale_factor=self.settings.vae_scale_factor)  # the transformer does not tell its VAE
        if found != self.settings.backbone:
            raise BackboneMismatchError(self.settings.backbone, found)
        parts = {number: self.layer(number) for number in self.settings.layers}
        self._attachment = Attachment(family, transformer, parts, self, found.patch_size)
        return self

    def detach(self) -> Self:
        """Put the original processor objects back. Does nothing if the adapter is not attached."""
        if self._attachment is not None:
            self._attachment.undo()
            self._attachment = None
        return self

    def parameter_groups(self, lr: float, gate_lr_scale: float = 10.0) -> list[dict[str, Any]]:
        """Optimiser groups "projections" and "gates"; the gates learn faster, and are never decayed back to zero."""
        gates = [self.layer(number).gate.value for number in self.settings.layers]
        known = {id(gate) for gate in gates}
        others = [parameter for parameter in self.parameters() if id(parameter) not in known]
        return [
            {"name": "projections", "params": others, "lr": lr},
            {"name": "gates", "params": gates, "lr": lr * gate_lr_scale, "weight_decay": 0.0},
        ]
