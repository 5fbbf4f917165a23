"""How much the adapter changes the size of the attentions' outputs.

With `a = 1` the output `a O1 + b Of` of an adapted attention grows roughly as `1 + b`, for which the frozen layers
behind it were not trained (the paper does not fix `a`). Training logs the growth, so that runs can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pinco.adapter.adapter import PincoAdapter


@torch.no_grad()
def output_gain(adapter: PincoAdapter, run: Callable[[], object]) -> dict[int, float]:
    """Norm of every adapted attention's output with the adapter, over the norm without it.

    Args:
        adapter: attached to the backbone that `run` runs; its scale is restored afterwards.
        run: one forward pass with a subject. It is called twice.

    Returns:
        layer number -> ratio, 1 where the adapter changes nothing.
    """
    scale = adapter.scale
    try:
        norms = []
        for strength in (scale, 0.0):
            adapter.scale = strength
            norms.append(_output_norms(list(adapter.attentions().values()), run))
    finally:
        adapter.scale = scale
    return {number: with_it / without for number, with_it, without in zip(adapter.attentions(), *norms, strict=True)}


def _output_norms(modules: Sequence[nn.Module], run: Callable[[], object]) -> list[float]:
    norms: dict[int, float] = {}

    def remember(module: nn.Module, _: object, output: Tensor | tuple[Tensor, ...]) -> None:
        parts = output if isinstance(output, tuple) else (output,)
        norms[id(module)] = float(sum(float(part.float().square().sum()) for part in parts) ** 0.5)

    hooks = [module.register_forward_hook(remember) for module in modules]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return [norms[id(module)] for module in modules]
