"""Settings of the execution, applied to a loaded diffusers pipeline: weights placed, blocks compiled, steps cached."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import psutil
import torch
from accelerate import cpu_offload_with_hook
from diffusers.hooks import (
    FirstBlockCacheConfig,
    HookRegistry,
    TaylorSeerCacheConfig,
    apply_first_block_cache,
    apply_taylorseer_cache,
)
from diffusers.hooks.hooks import CacheContext, _set_cache_context
from torch import nn

from pinco.pipelines.dual_block_cache import check_package, dual_block_cache
from pinco.pipelines.execution import Execution, ExecutionError, PlacementName, Quantise
from pinco.pipelines.families import PipelineFamily

FP8_CAPABILITY = (8, 9)
"""The first CUDA devices that compute with 8-bit floats."""

FIRST_BLOCK_THRESHOLD = 0.08
"""Relative change of the first block's residual below which a step takes over the rest of the last one."""

TAYLOR_INTERVAL = 3
"""Every so many steps attentions are computed, after as many at the start; in between they are extrapolated."""

COMPILE_OPTIONS: dict[str, Any] = {"dynamic": False}
"""Of `torch.compile`: one graph for each size of images, which a run has few of."""


def free_memory(device: str, share: float = 1.0) -> int:
    """Bytes that are free on a device; of the CPU, in main memory.

    Args:
        device: Which one.
        share: Of an accelerator's memory that this process may take at most.
    """
    if torch.device(device).type == "cuda":
        free, total = torch.cuda.mem_get_info(torch.device(device))
        return int(min(free, total * share))
    return int(psutil.virtual_memory().available)


def quantisation(quantise: Quantise, device: str, unquantised: Sequence[str] = ()) -> dict[str, Any]:
    """Arguments of diffusers' `from_pretrained` that quantise the transformer's linear weights while they are read.

    Args:
        quantise: Number format of the weights.
        device: Where they compute.
        unquantised: Parts of the transformer that keep theirs.

    Raises:
        ExecutionError: The device has no such numbers, or torchao is missing.
    """
    if quantise == "none":
        return {}
    if quantise == "fp8":
        _check_fp8(device)
    if importlib.util.find_spec("torchao") is None:
        raise ExecutionError(f"model.quantise: {quantise} needs the package torchao: install it, or set it to none")
    from diffusers import PipelineQuantizationConfig, TorchAoConfig
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    kind = Int8WeightOnlyConfig() if quantise == "int8" else Float8WeightOnlyConfig()
    config = TorchAoConfig(kind, modules_to_not_convert=list(unquantised))
    return {"quantization_config": PipelineQuantizationConfig(quant_mapping={"transformer": config})}


def _check_fp8(device: str) -> None:
    cuda = torch.device(device).type == "cuda"
    if not cuda or torch.cuda.get_device_capability(torch.device(device)) < FP8_CAPABILITY:
        least = ".".join(map(str, FP8_CAPABILITY))
        raise ExecutionError(
            f"model.quantise: fp8 needs a CUDA device of compute capability {least} or above, which {device} is not: "
            "set it to int8 or none"
        )


def prepare_transformer(pipe: Any, family: PipelineFamily, execution: Execution) -> None:
    """Compile blocks and cache steps, as the execution says; after an adapter was attached."""
    transformer = pipe.transformer
    if execution.cache == "first_block":
        apply_first_block_cache(transformer, FirstBlockCacheConfig(threshold=FIRST_BLOCK_THRESHOLD))
    elif execution.cache == "taylor":
        config = TaylorSeerCacheConfig(TAYLOR_INTERVAL, TAYLOR_INTERVAL, taylor_factors_dtype=transformer.dtype)
        apply_taylorseer_cache(transformer, config)
    elif execution.cache == "dbcache":
        check_package()  # the cache itself is put on for each call
    HookRegistry.check_if_exists_or_initialize(transformer).invalidate_child_registries_cache()
    if execution.compile:
        if not getattr(transformer, "_repeated_blocks", None):
            transformer._repeated_blocks = list(family.repeated_blocks)
        transformer.compile_repeated_blocks(**COMPILE_OPTIONS)


@contextmanager
def cached_steps(
    pipe: Any, family: PipelineFamily, execution: Execution, *, steps: int, negative: bool
) -> Iterator[None]:
    """What a call of the pipeline runs in.

    A cache keeps its state under a name, and not all pipelines name one. It is emptied at the end, which not all
    pipelines do, and none that fails: what a batch left must not come into the next.

    Args:
        pipe: The pipeline whose transformer is called.
        family: Of the pipeline.
        execution: How it computes.
        steps: Steps of the call.
        negative: Whether the call has negative prompts.
    """
    if execution.cache == "none":
        yield
        return
    if execution.cache == "dbcache":
        passes = 2 if negative and family.separate_passes else 1
        lists, skips = family.block_lists, family.block_skips
        with dual_block_cache(pipe.transformer, lists, steps=steps, passes=passes, has_skips=skips):
            yield
        return
    registry = HookRegistry.check_if_exists_or_initialize(pipe.transformer)
    _set_cache_context(pipe.transformer, CacheContext("steps"))
    try:
        yield
    finally:
        registry.reset_stateful_hooks(recurse=True)
        _set_cache_context(pipe.transformer, None)


@contextmanager
def tiling(vae: Any, tiles: bool) -> Iterator[None]:
    """The VAE works image by image, and in tiles or in one piece."""
    vae.enable_slicing()
    if tiles:
        vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()


def put(pipe: Any, placement: PlacementName, device: str, *, swap: bool = False) -> TextStage | None:
    """Put a pipeline's weights where a placement has them.

    Args:
        pipe: A diffusers pipeline on the CPU.
        placement: Not "auto".
        device: Where the pipeline computes.
        swap: With "offload_text", text encoders and transformer do not fit beside each other.

    Returns:
        With "offload_text", the stage in which prompts are encoded; None where they can be at any time.
    """
    if placement == "offload_model":
        pipe.enable_model_cpu_offload(device=device)
    elif placement == "offload_sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    elif placement == "offload_text":
        return TextStage(pipe, device, swap=swap)
    else:
        pipe.to(device)
    return None


class TextStage:
    """Context in which the text encoders have the accelerator; outside of it they wait in main memory.

    Every encoder comes to the device when it is first called, and they leave together.
    """

    def __init__(self, pipe: Any, device: str, *, swap: bool) -> None:
        """Put everything but the text encoders on the device, and hooks on these.

        Args:
            pipe: A diffusers pipeline on the CPU.
            device: Where the pipeline computes.
            swap: The transformer leaves while the encoders are there.
        """
        place = torch.device(device)
        if place.type != "cpu" and place.index is None:
            place = torch.device(place.type, 0)  # a hook compares it with the place of the weights
        self._encoders: list[Any] = []
        self._transformer: Any = None
        for name, part in pipe.components.items():
            if not isinstance(part, nn.Module):
                continue
            if name.startswith("text_encoder"):
                self._encoders.append(cpu_offload_with_hook(part, place)[1])
            elif name == "transformer" and swap:
                self._transformer = cpu_offload_with_hook(part, place)[1]
            else:
                part.to(place)

    def __enter__(self) -> Self:
        if self._transformer is not None:
            self._transformer.offload()
        return self

    def __exit__(self, *_: object) -> None:
        for encoder in self._encoders:
            encoder.offload()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
