"""What Pinco needs to know of a diffusers pipeline; `docs/adding-a-family.md` walks through one.

A pipeline family is one module in this folder with an instance named `FAMILY`. It is read while planning, so it must
not import torch or diffusers at its top.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pinco.pipelines.defaults import GenerationDefaults
from pinco.pipelines.execution import CacheName
from pinco.pipelines.request import GenerationRequest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pinco.adapter import BackboneDims

Config = Mapping[str, Any]
"""Configuration of a transformer or a VAE, as diffusers writes it."""

Embeddings = Mapping[str, Any]
"""What a prompt is encoded to, usually tensors `[1, ...]`, by the names of the pipeline's arguments."""


class PipelineFamily(ABC):
    """Pipelines that are called alike; one instance serves them all.

    Attributes:
        pipelines: Names of the diffusers classes, as `model_index.json` has them.
        packed: Whether the pipeline's latents are packed tokens `[B, N, C p p]`, else `[B, C, h, w]`.
        refused: Related classes that Pinco cannot run, each with a predicate ("is made for ...") that says why not, and
            a sentence that names the way out.
        text_to_image: Whether the pipelines make an image of noise and a prompt alone, as the methods pinco and blend
            need it.
        inpainting: Name of diffusers' inpainting pipeline over the same parts, by method (fill, controlnet).
        controlnet: Class of the ControlNets for the method controlnet, as their `config.json` has it.
        controlnet_options: What else `from_pretrained` is told of them, where published configurations do not say it.
        no_controlnet: Why there is none, as a sentence; empty where nothing more is to say.
        caches: Which `Execution.cache` the transformer has.
        block_lists: For the cache "dbcache": the transformer's lists of blocks by name, each with cache-dit's name for
            how its blocks are called (`ForwardPattern`).
        block_skips: Whether blocks are given what others put out, by skip connections.
        separate_passes: Whether a negative prompt has a call of the transformer of its own in each step.
        single_layers: Whether its layers can be moved to the device one by one ("offload_sequential").
        unquantised: Parts of the transformer whose weights are never quantised.
        repeated_blocks: Class names of its repeated blocks, which can be compiled; empty where that was not tried.
    """

    pipelines: ClassVar[tuple[str, ...]]
    packed: ClassVar[bool]
    refused: ClassVar[Mapping[str, str]] = {}
    text_to_image: ClassVar[bool] = True
    inpainting: ClassVar[Mapping[str, str]] = {}
    controlnet: ClassVar[str | None] = None
    controlnet_options: ClassVar[Mapping[str, Any]] = {}
    no_controlnet: ClassVar[str] = ""
    caches: ClassVar[tuple[CacheName, ...]] = ()
    block_lists: ClassVar[Mapping[str, str]] = {}
    block_skips: ClassVar[bool] = False
    separate_passes: ClassVar[bool] = False
    single_layers: ClassVar[bool] = True
    unquantised: ClassVar[tuple[str, ...]] = ()
    repeated_blocks: ClassVar[tuple[str, ...]] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that these pipelines can be used for, the weights provided."""
        return (*(("pinco", "blend") if self.text_to_image else ()), *self.inpainting)

    # Without torch, for planning.

    @abstractmethod
    def usual(self, transformer: Config) -> GenerationDefaults:
        """The family's settings where a backbone's folder has no `pinco.json`."""

    @abstractmethod
    def size_multiple(self, transformer: Config, vae: Config) -> int:
        """What both sides of an image must be a multiple of, in pixels: one token."""

    def variant(self, index: Config) -> PipelineFamily:
        """The family for one checkpoint, where the pipeline's own configuration (`model_index.json`) decides."""
        return self

    def refusal(self, index: Config, transformer: Config, vae: Config) -> str | None:
        """Why Pinco cannot run a checkpoint of these pipelines, and the way out.

        Args:
            index: The pipeline's own configuration, as `model_index.json` has it.
            transformer: That of its transformer.
            vae: That of its VAE.

        Returns:
            A predicate ("is made for ...") and a sentence, as in `refused`; `None` where it can.
        """
        return None

    def controlnet_refusal(
        self, config: Config, shapes: Mapping[str, tuple[int, ...]], transformer: Config
    ) -> str | None:
        """Why a ControlNet of the class `controlnet` cannot be used for inpainting with a backbone.

        Args:
            config: The ControlNet's own configuration.
            shapes: Of its tensors, by name.
            transformer: Configuration of the backbone's transformer.

        Returns:
            A predicate ("takes ...") and a sentence, as in `refused`; `None` where it can.
        """
        return None

    # With torch.

    def dims(self, pipe: Any) -> BackboneDims:
        """The sizes of a loaded pipeline's backbone."""
        from pinco.adapter.families import family_of

        dims: BackboneDims = family_of(pipe.transformer).dims(pipe.transformer, pipe.vae.config)
        return dims

    def pipeline_class(self, name: str) -> Any:
        """The class that loads a backbone's folder."""
        import diffusers

        return getattr(diffusers, name)

    def encode_image(self, pipe: Any, image: Tensor) -> Tensor:
        """The latents of an image, as the transformer takes them.

        Args:
            pipe: The pipeline.
            image: `[B, 3, H, W]` in -1..1.

        Returns:
            `[B, C, h, w]`: the mode of the VAE's latents, shifted and scaled.
        """
        vae = pipe.vae  # its weights may wait elsewhere than it computes
        latents: Tensor = vae.encode(image.to(pipe._execution_device, vae.dtype)).latent_dist.mode()
        if vae.config.shift_factor is not None:
            latents = latents - vae.config.shift_factor
        latents = latents * vae.config.scaling_factor
        return latents

    def as_argument(self, latents: Tensor, dims: BackboneDims) -> Tensor:
        """Latents `[B, C, h, w]` laid out as the pipeline's `latents` argument."""
        return self.in_the_loop(latents, dims)

    def sampling(
        self, pipe: Any, noise: Tensor, generators: Sequence[torch.Generator], dims: BackboneDims
    ) -> dict[str, Any]:
        """The pipeline's arguments for all that is random.

        Args:
            pipe: The pipeline.
            noise: `[B, C, h, w]` float32.
            generators: On the CPU, one for each image, which its noise was drawn from; only for schedulers that draw
                more noise at each step.
            dims: The backbone's sizes.
        """
        return {"latents": self.as_argument(noise, dims)}

    def in_the_loop(self, latents: Tensor, dims: BackboneDims) -> Tensor:
        """Latents `[B, C, h, w]` laid out as the pipeline hands them to its step callback."""
        from pinco.adapter.tokens import pack

        return pack(latents, dims.patch_size) if self.packed else latents

    def for_the_vae(self, pipe: Any, latents: Tensor, size: tuple[int, int], dims: BackboneDims) -> Tensor:
        """Latents as the VAE decodes them: what the pipeline does to them before its own decode.

        Args:
            pipe: The pipeline.
            latents: As it returns them for `output_type="latent"`.
            size: Width and height of the images in pixels.
            dims: The backbone's sizes.

        Returns:
            `[B, C, h, w]`, neither scaled nor shifted.
        """
        from pinco.adapter.tokens import unpack

        config = pipe.vae.config
        if self.packed:
            width, height = size
            grid = (height // dims.token_stride, width // dims.token_stride)
            latents = unpack(latents, dims.patch_size, grid).contiguous()  # a convolution's bits depend on the layout
        latents = latents / config.scaling_factor
        if config.shift_factor is not None:
            latents = latents + config.shift_factor
        return latents.to(pipe.vae.dtype)

    def pictures(self, pipe: Any, decoded: Tensor) -> Any:
        """What the VAE decoded, `[B, 3, H, W]` in -1..1, as numpy arrays `[B, H, W, 3]` in 0..1."""
        return pipe.image_processor.postprocess(decoded, output_type="np")

    def renoise(self, scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
        """The clean latents as noisy as the scheduler leaves them after a step; only for latent blending."""
        from pinco.pipelines.blending import renoise_flow

        return renoise_flow(scheduler, step, clean, noise)

    @abstractmethod
    def encode_prompt(self, pipe: Any, prompt: str, max_sequence_length: int) -> Embeddings:
        """One prompt, encoded. The names are those of the pipeline's arguments for the positive prompt."""

    def join(self, embeddings: Sequence[Embeddings]) -> Embeddings:
        """Several prompts as one batch; to be replaced where prompts differ in length, or travel as lists."""
        import torch

        return {name: torch.cat([one[name] for one in embeddings]) for name in embeddings[0]}

    def negative(self, embeddings: Embeddings) -> Embeddings:
        """The same under the names of the pipeline's arguments for the negative prompt; empty where it takes none."""
        return {f"negative_{name}": tensor for name, tensor in embeddings.items()}

    @abstractmethod
    def knobs(self, request: GenerationRequest) -> dict[str, Any]:
        """The pipeline's arguments for what a request sets, without size, prompts, noise and steps."""

    # For the methods fill and controlnet.

    def controlnet_class(self) -> Any:
        """The class that loads a ControlNet's folder."""
        import diffusers

        return getattr(diffusers, str(self.controlnet))

    def inpainting_arguments(
        self, method: str, pipe: Any, known: KnownPixels, noise: Tensor, dims: BackboneDims
    ) -> dict[str, Any]:
        """The inpainting pipeline's arguments for what is known of the image, and for all that is random.

        Args:
            method: A key of `inpainting`.
            pipe: The inpainting pipeline.
            known: The product's pixels.
            noise: `[B, C, h, w]` float32; sampling starts from it.
            dims: The backbone's sizes.

        Raises:
            NotImplementedError: The family names a pipeline for the method and does not replace this; a family without
                such pipelines is never asked.
        """
        raise NotImplementedError(f"{type(self).__name__} names a pipeline for {method} and not its arguments")


@dataclass(frozen=True)
class KnownPixels:
    """What an inpainting pipeline is told of the image.

    Attributes:
        image: `[1, 3, H, W]` in 0..1, the product on neutral grey.
        background: `[1, 1, H, W]`, 1 where the image is to be painted: wherever the product is not fully opaque.
    """

    image: Tensor
    background: Tensor

    def background_of(self, side: int) -> Tensor:
        """The background grown to whole squares of `side` pixels, so that none of them holds any neutral grey.

        For pipelines that hold the known region at the resolution of latents or tokens.
        """
        import torch.nn.functional as F

        return F.interpolate(F.max_pool2d(self.background, side), scale_factor=side)

    def on_black(self) -> Tensor:
        """The image in -1..1 with black in its background, `[1, 3, H, W]`."""
        import torch

        return torch.where(self.background > 0, -1.0, 2 * self.image - 1)


def latent_side(vae: Config) -> int:
    """Pixels per latent pixel along one side of an `AutoencoderKL`."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))


def other_widths(controlnet: Config, transformer: Config) -> str | None:
    """Why a ControlNet does not fit a transformer, by the widths of their image and text tokens; `None` where it does.

    As `PipelineFamily.controlnet_refusal`.
    """
    theirs, ours = (
        f"{config['num_attention_heads'] * config['attention_head_dim']} and {config['joint_attention_dim']}"
        for config in (controlnet, transformer)
    )
    if theirs == ours:
        return None
    return (
        f"was made for another backbone: its image and text tokens are {theirs} wide, the backbone's {ours}. Name the "
        "backbone that it was made for"
    )
