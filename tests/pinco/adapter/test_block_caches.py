"""diffusers' caches of blocks and attentions under an attached adapter: what is computed sees its own keys and values.

First block cache, MagCache, TaylorSeer and pyramid attention broadcast, on the families whose bare backbone they work
on in this diffusers; `enable_cache` offers them for Flux and Flux 2. (FasterCache works on none of them, and SeaCache
leaves images alone.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import hooks
from diffusers.hooks.hooks import CacheContext, _set_cache_context

from tests.pinco.adapter.families.flux2_suite import Flux2Suite
from tests.pinco.adapter.families.flux_suite import FluxSuite
from tests.pinco.adapter.families.hunyuan_suite import HunyuanSuite
from tests.pinco.adapter.families.sd3_suite import SD3Suite
from tests.pinco.adapter.families.z_image_suite import ZImageSuite
from tests.pinco.adapter.suite import SMALL, AdapterSuite, CachedSteps, watch_keys

STEPS = 6
PYRAMID = hooks.PyramidAttentionBroadcastConfig(
    spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
)
CACHES: dict[str, tuple[Any, Any]] = {
    "first block": (hooks.apply_first_block_cache, hooks.FirstBlockCacheConfig(threshold=100.0)),
    "mag": (
        hooks.apply_mag_cache,
        hooks.MagCacheConfig(num_inference_steps=STEPS, mag_ratios=[1.0] * STEPS, threshold=1.0),
    ),
    "taylor": (
        hooks.apply_taylorseer_cache,
        hooks.TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1, max_order=1),
    ),
    "pyramid": (hooks.apply_pyramid_attention_broadcast, PYRAMID),
}


class DualSD3Suite(SD3Suite):
    """With second attentions."""

    layout = "sd3.5-medium"


SUPPORTED: dict[type[AdapterSuite], tuple[str, ...]] = {
    FluxSuite: ("first block", "mag", "taylor", "pyramid"),
    Flux2Suite: ("mag", "taylor", "pyramid"),
    DualSD3Suite: ("mag", "taylor", "pyramid"),
    HunyuanSuite: ("pyramid",),
    ZImageSuite: ("pyramid",),
}
CASES = [(suite, cache) for suite, names in SUPPORTED.items() for cache in names]


@contextmanager
def _context(backbone: Any, step: int) -> Iterator[None]:
    context = CacheContext("cond", step_index=step, sigma=1 - step / STEPS, num_inference_steps=STEPS)
    _set_cache_context(backbone, context)
    try:
        yield
    finally:
        _set_cache_context(backbone, None)


@pytest.mark.parametrize(("kind", "cache"), CASES, ids=[f"{kind.__name__}-{cache}" for kind, cache in CASES])
@torch.no_grad()
def test_every_layer_that_runs_sees_its_own_keys(
    kind: type[AdapterSuite], cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = CachedSteps(kind(), monkeypatch)
    apply, config = CACHES[cache]
    if hasattr(steps.backbone, "enable_cache"):
        steps.backbone.enable_cache(config)
    else:
        apply(steps.backbone, config)
    for step in range(STEPS):
        with _context(steps.backbone, step):
            steps.step()
    assert steps.layers[0] == set(steps.adapter.settings.layers)
    assert any(ran < steps.layers[0] for ran in steps.layers)  # something was remembered


@torch.no_grad()
def test_a_cached_step_sees_the_subject_of_its_own_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block cache runs the first block alone in the second step, whose subject is another one."""
    suite = FluxSuite()
    backbone = suite.new_backbone()
    adapter = suite.new_adapter(backbone).attach(backbone)
    inputs, (latents, maps) = suite.new_inputs(backbone, 2, SMALL), suite.new_subject_inputs(backbone)
    one, other = (adapter.encode(part, maps, cache=True) for part in (latents, -latents))
    backbone.enable_cache(CACHES["first block"][1])
    seen = watch_keys(monkeypatch)
    with _context(backbone, 0):
        suite.run(backbone, inputs, adapter, one)
    seen.clear()
    with _context(backbone, 1):
        suite.run(backbone, inputs, adapter, other)
    assert set(seen) == {0} and other.cache is not None and other.cache[0] is not None
    assert torch.equal(seen[0], other.cache[0][0])
