"""Time one denoising step with the adapter against the bare step, on full-size layers of random weights.

    python bench/attention.py [--backbones flux.1-dev,sd3.5-large] [--side 512] [--repeats 5] [--threads 1]

On the CPU every backbone is cut to one block of each kind it has, at full width, in float32; on CUDA it is whole, in
bfloat16, at 1024 x 1024 pixels. The adapter enters every layer with the default rank. Columns, each over the bare step:

    reference   every subject token; the equation by two attentions over joined keys; keys and values made in the step
    fused       the same by the merge of two attentions
    cached      the same with keys and values made once per canvas
    pruned      the same, and only the subject tokens under the mask, a quarter of them

"floor" is what arithmetic alone costs: (FLOPs of the bare step + FLOPs of attending to the pruned subject tokens) /
FLOPs of the bare step. Times are medians of runs that take turns.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import torch
from step_inputs import step_inputs
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pinco.adapter import PincoAdapter, Subject

CONFIGS = Path(__file__).parent / "configs"
USUAL = ("flux.1-dev", "sd3.5-large", "sd3.5-medium", "hunyuan-dit-1.2", "flux.2-klein-4b", "z-image-turbo")
COLUMNS = ("reference", "fused", "cached", "pruned")
CUT = {
    "FluxTransformer2DModel": {"num_layers": 1, "num_single_layers": 1},
    "Flux2Transformer2DModel": {"num_layers": 1, "num_single_layers": 1},
    "SD3Transformer2DModel": {"num_layers": 2},
    "HunyuanDiT2DModel": {"num_layers": 2},
    "ZImageTransformer2DModel": {"n_layers": 1, "n_refiner_layers": 1},
}
"""One block of each kind. SD3's last block returns no text, so that two are needed to have a whole one."""


def load(name: str, device: str) -> tuple[Any, Any]:
    """A transformer of random weights and the configuration of its VAE."""
    config = json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))
    values = dict(config["transformer"])
    kind = getattr(diffusers, values["_class_name"])
    if device == "cpu":
        values |= CUT[values["_class_name"]]
        if values.get("dual_attention_layers"):
            values["dual_attention_layers"] = [0]
    torch.manual_seed(0)
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32 if device == "cpu" else torch.bfloat16)
        transformer = kind.from_config(values).eval().requires_grad_(False)
        torch.set_default_dtype(before)
        vae = getattr(diffusers, config["vae"]["_class_name"])
    with torch.device("meta"):
        return transformer, vae.from_config(config["vae"]).config


def steps(transformer: Any, vae_config: Any, side: int) -> tuple[dict[str, Callable[[], Any]], int, PincoAdapter]:
    """The bare step and those with the adapter, by column; also the number of pruned subject tokens."""
    adapter = PincoAdapter.for_backbone(transformer, vae_config, init_semantic="random")
    adapter = adapter.to(transformer.device, transformer.dtype).requires_grad_(False)
    for number in adapter.settings.layers:
        adapter.layer(number).gate.value.fill_(0.3)
    dims = adapter.settings.backbone
    grid = (side // dims.token_stride, side // dims.token_stride)
    inputs = step_inputs(transformer, grid)
    adapter.attach(transformer)
    latents = torch.randn(1, dims.latent_channels, *(n * dims.patch_size for n in grid))
    maps = torch.zeros(1, 3, side, side)
    maps[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1
    encoded = {
        (prune, cache): _encode(adapter, latents, maps, prune=prune, cache=cache)
        for prune, cache in ((False, False), (False, True), (True, True))
    }

    def call(subject: Subject | None, reference: bool = False) -> Any:
        if subject is None:
            return transformer(**inputs)
        with _by_reference() if reference else _nothing(), adapter.using(subject) as extra:
            return transformer(**inputs, **extra)

    runs: dict[str, Callable[[], Any]] = {
        "bare": lambda: call(None),
        "reference": lambda: call(encoded[False, False], reference=True),
        "fused": lambda: call(encoded[False, False]),
        "cached": lambda: call(encoded[False, True]),
        "pruned": lambda: call(encoded[True, True]),
    }
    return runs, encoded[True, True].tokens.shape[1], adapter


def _encode(adapter: PincoAdapter, latents: Any, maps: Any, *, prune: bool, cache: bool) -> Subject:
    import dataclasses

    settings = dataclasses.replace(adapter.settings, prune=prune, mask_dilation=0)
    with patch.object(adapter, "settings", settings):
        return adapter.encode(latents, maps, cache=cache)


@contextmanager
def _by_reference() -> Iterator[None]:
    """As where no kernel can merge."""
    with patch("pinco.adapter.attention.kernel_for", lambda *_, **__: None):
        yield


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def floor(bare: Callable[[], Any], adapter: PincoAdapter, queries: int, subject_tokens: int) -> float:
    """Arithmetic of the step with the adapter over that without; only products count, an addition is an operation."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        bare()
    added = 4 * len(adapter.settings.layers) * queries * subject_tokens * adapter.settings.inner_dim
    return 1 + added / counter.get_total_flops()


def medians(runs: dict[str, Callable[[], Any]], repeats: int, device: str) -> dict[str, float]:
    """Seconds of each; they take turns, and the first turn warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            if device == "cuda":
                torch.cuda.synchronize()
            began = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def queries_seen(adapter: PincoAdapter, run: Callable[[], Any]) -> int:
    """The longest sequence of queries that an attention of this step has."""
    longest = 0

    def note(*arguments: Any, **options: Any) -> Any:
        nonlocal longest
        longest = max(longest, arguments[0].shape[2])
        return original(*arguments, **options)

    from pinco.adapter import processor

    original = processor.subject_attention
    with patch.object(processor, "subject_attention", note):
        run()
    return longest


@torch.no_grad()
def measure(name: str, device: str, side: int, repeats: int) -> str:
    """One row of the table."""
    transformer, vae_config = load(name, device)
    runs, subject_tokens, adapter = steps(transformer, vae_config, side)
    queries = queries_seen(adapter, runs["pruned"])
    least = floor(runs["bare"], adapter, queries, subject_tokens)
    took = medians(runs, repeats, device)
    ratios = " | ".join(f"{took[column] / took['bare']:.2f}" for column in COLUMNS)
    adapter.detach()
    size = f"{queries} + {subject_tokens}"
    return f"| {name} | {len(adapter.settings.layers)} | {size} | {1000 * took['bare']:.0f} | {ratios} | {least:.3f} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", default=",".join(USUAL), help="names of files in bench/configs")
    parser.add_argument("--side", type=int, help="pixels; 512 on the CPU, 1024 on CUDA unless given")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cpu = arguments.device == "cpu"
    side = arguments.side or (512 if cpu else 1024)
    what = f"one block of each kind, float32, {arguments.threads} thread(s)" if cpu else "whole, bfloat16"
    machine = "CPU" if cpu else torch.cuda.get_device_name()
    print(f"{machine}, torch {torch.__version__}: {what}, {side} x {side} pixels\n")
    print("| backbone | layers | queries + subject tokens | bare, ms | reference | fused | cached | pruned | floor |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.backbones.split(","):
        print(measure(name, arguments.device, side, arguments.repeats), flush=True)
        gc.collect()
        if not cpu:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
