"""Reading a backbone that is not simply there: its weights wait elsewhere (offload), or a LoRA lies over them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import nn


def at_hand(module: nn.Module) -> AbstractContextManager[None]:
    """Inside, the module's own weights can be read; accelerate's sequential offload keeps them off the device.

    Args:
        module: Its parameters are meant, not those of modules inside of it, which load their own when they are called.
    """
    context: AbstractContextManager[None] = align_module_device(module)
    return context


def execution_device(module: nn.Module) -> torch.device:
    """Where a module computes, wherever its weights wait in between.

    Args:
        module: With at least one parameter.
    """
    for part in module.modules():
        device = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device


@contextmanager
def without_loras(backbone: nn.Module) -> Iterator[None]:
    """Inside, PEFT's layers compute what lies below their LoRAs. LoRAs that are fused are part of the weights.

    Args:
        backbone: With or without such layers.
    """
    layers: list[Any] = [part for part in backbone.modules() if hasattr(part, "base_layer") and _on(part)]
    trained = [(parameter, parameter.requires_grad) for parameter in backbone.parameters()]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, requires_grad in trained:  # switching over changes it
            parameter.requires_grad_(requires_grad)


def _on(layer: Any) -> bool:
    """Whether a layer's LoRA takes part in its calls and is not fused: to switch that off would take it out."""
    return hasattr(layer, "enable_adapters") and not layer.disable_adapters and not layer.merged
