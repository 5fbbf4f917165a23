"""DBCache (dual block cache) of the package cache-dit, put on a transformer for one call of its pipeline.

The first blocks of a list always run. Where what they add changes little from the last step in which all blocks ran,
the others are left out, and what they added then is added again. The package gives no place to a cache that is emptied
between calls; so it is put on at the start of each call, which takes a millisecond, and taken off at the end.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

from torch import Tensor, nn

from pinco.pipelines.execution import ExecutionError

PACKAGE = "cache_dit"

FIRST_BLOCKS = 8
"""Blocks at the start of a list that always run, at most half of the list. As the next two, cache-dit's own value."""

WARM_UP_STEPS = 8
"""Steps at the start in which all blocks run, at most a quarter of the steps."""

THRESHOLD = 0.08
"""Relative change of what the first blocks add below which a step takes over what the others added."""


def check_package() -> None:
    """Raise `ExecutionError` where cache-dit is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise ExecutionError(
            "model.cache: dbcache needs the package cache-dit: install it with `pip install 'pinco[cache]'`, or set it "
            "to another value"
        )


@contextmanager
def dual_block_cache(
    transformer: Any, lists: Mapping[str, str], *, steps: int, passes: int = 1, has_skips: bool = False
) -> Iterator[None]:
    """Inside, the transformer's blocks are cached; at the end it is as it was, whatever happened.

    Args:
        transformer: Of a diffusers pipeline; an adapter may be attached to it.
        lists: Its lists of blocks by name, each with cache-dit's name for how its blocks are called.
        steps: Steps of the call.
        passes: Calls of the transformer in each step, two where a negative prompt has one of its own.
        has_skips: The blocks of the second half are given what those of the first half put out, in reverse order.

    Raises:
        ExecutionError: cache-dit is not installed.
    """
    check_package()
    os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "ERROR")  # it would write to standard output in each call
    from cache_dit import BlockAdapter, DBCacheConfig, ForwardPattern, ParamsModifier, enable_cache

    blocks = [getattr(transformer, name) for name in lists]
    configs = [
        DBCacheConfig(
            Fn_compute_blocks=max(1, min(FIRST_BLOCKS, len(those) // 2)),
            max_warmup_steps=min(WARM_UP_STEPS, ceil(steps / 4)),
            residual_diff_threshold=THRESHOLD,
            enable_separate_cfg=passes == 2,
        )
        for those in blocks
    ]
    with _as_before(transformer, *blocks):
        adapter = BlockAdapter(
            transformer=transformer,
            blocks=[_alike(those) for those in blocks] if has_skips else blocks,
            blocks_name=list(lists),
            forward_pattern=[ForwardPattern[name] for name in lists.values()],
            params_modifiers=[ParamsModifier(cache_config=config) for config in configs],
            check_forward_pattern=False,
        )
        enable_cache(adapter, cache_config=configs[0])
        yield


@contextmanager
def _as_before(*modules: nn.Module) -> Iterator[None]:
    """At the end modules have the attributes that they had, and their parts in the same order.

    cache-dit's own way back leaves its `forward` on a transformer, loses the hooks of one whose weights wait in main
    memory, and leaves its lists of blocks behind all other parts.
    """
    before = [(module, dict(vars(module)), dict(module._modules)) for module in modules]
    try:
        yield
    finally:
        for module, attributes, parts in before:
            vars(module).clear()
            vars(module).update(attributes)
            module._modules.clear()
            module._modules.update(parts)


def _alike(blocks: Sequence[Any]) -> nn.ModuleList:
    """The blocks, to be called alike: they keep what they give to each other by skip connections among themselves."""
    skips: list[Tensor] = []
    return nn.ModuleList(_Skipping(block, number, len(blocks), skips) for number, block in enumerate(blocks))


class _Skipping(nn.Module):
    """A block that hands its output to the one opposite to it, as in a U-Net.

    cache-dit has a patch for such transformers, which gives every compiled block a graph of its own.
    """

    def __init__(self, block: nn.Module, number: int, count: int, skips: list[Tensor]) -> None:
        super().__init__()
        self.block, self.number, self.count, self.skips = block, number, count, skips

    def forward(self, hidden_states: Tensor, **arguments: Any) -> Tensor:
        if self.number == 0:
            self.skips.clear()  # a step that left blocks out did not use them up
        skip = {"skip": self.skips.pop()} if self.number > self.count // 2 else {}
        output: Tensor = self.block(hidden_states, **arguments, **skip)
        if self.number < self.count // 2 - 1:
            self.skips.append(output)
        return output
