"""What each method costs on one backbone of random weights: seconds per image, peak memory, extra parameters.

    python bench/peers.py [--side 256] [--steps 8] [--repeats 3] [--threads 1]

The backbone is FLUX.1-dev's transformer: on the CPU cut to one double and one single block at full width, in float32;
on CUDA whole, in bfloat16, at 1024 x 1024 pixels. fill has FLUX.1-Fill-dev's, which takes more channels. The
ControlNet is as deep as alimama's Beta (6 double blocks) on CUDA, one block on the CPU. Prompts are embedded
beforehand. Each method runs in a process of its own; "bare" is text to image with no product in it, what all are held
against. Peak memory is what the process holds at most while it makes images (resident on the CPU, allocated on CUDA),
weights included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

CONFIGS = Path(__file__).parent / "configs"
METHODS = ("bare", "pinco", "blend", "fill", "controlnet")
PROMPT, TEXT_TOKENS = "a product", 512
CUT = {"num_layers": 1, "num_single_layers": 1}
CONTROLNET_LAYERS = 6


def new_pipeline(method: str, device: str) -> tuple[Any, int]:
    """A `PincoPipeline` for a method, without text encoders, and how many parameters the method adds to a backbone."""
    import diffusers
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxPipeline

    from pinco.adapter import PincoAdapter
    from pinco.pipelines.controlnets.flux import masked_controlnet
    from pinco.pipelines.pipeline import PincoPipeline

    config = json.loads((CONFIGS / ("flux.1-fill-dev.json" if method == "fill" else "flux.1-dev.json")).read_text())
    values = config["transformer"] | (CUT if device == "cpu" else {})
    torch.manual_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    torch.set_default_dtype(dtype)
    with torch.device(device):
        transformer = diffusers.FluxTransformer2DModel.from_config(values)
        vae = diffusers.AutoencoderKL.from_config(config["vae"])
        controlnet = None
        if method == "controlnet":
            layers = 1 if device == "cpu" else CONTROLNET_LAYERS
            known = {name: value for name, value in values.items() if not name.startswith("_")}
            controlnet = masked_controlnet()(**known | {"num_layers": layers, "num_single_layers": 0})
    torch.set_default_dtype(torch.float32)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    kind = FluxFillPipeline if method == "fill" else FluxPipeline
    absent = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipe = kind(scheduler=scheduler, vae=vae, transformer=transformer, **absent)
    adapter = None
    if method == "pinco":
        adapter = PincoAdapter.for_backbone(transformer, vae.config, init_semantic="random").to(device, dtype)
        for number in adapter.settings.layers:
            adapter.layer(number).gate.value.data.fill_(0.3)
    pipeline = PincoPipeline(pipe, adapter, controlnet=controlnet)
    pipeline.prompts[PROMPT] = {
        "prompt_embeds": torch.randn(1, TEXT_TOKENS, values["joint_attention_dim"]).to(device, dtype),
        "pooled_prompt_embeds": torch.randn(1, values["pooled_projection_dim"]).to(device, dtype),
    }
    extra = sum(parameter.numel() for part in (adapter, controlnet) if part for parameter in part.parameters())
    return pipeline, extra


def new_canvas(side: int) -> Any:
    """A square product on a quarter of the canvas."""
    from preprocessing.canvas import Canvas

    alpha = np.zeros((side, side), np.uint8)
    alpha[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 255
    image = np.full((side, side, 3), 128, np.uint8)
    image[alpha > 0] = (180, 40, 40)
    return Canvas(image=image, alpha=alpha, depth=alpha, sobel=np.zeros_like(alpha))


def measure(method: str, device: str, side: int, steps: int, repeats: int, threads: int) -> tuple[float, float, int]:
    """Seconds per image (median, encoding of the canvas included), peak GiB, extra parameters."""
    import torch

    torch.set_num_threads(threads)
    pipeline, extra = new_pipeline(method, device)
    canvas, seconds = new_canvas(side), []
    for turn in range(repeats + 1):
        request = pipeline.defaults.request(PROMPT, seed=turn, steps=steps)
        began = time.perf_counter()
        pipeline.generate(pipeline.encode_canvas(canvas, method), [request])
        if device == "cuda":
            torch.cuda.synchronize()
        if turn:  # the first one warms up
            seconds.append(time.perf_counter() - began)
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return statistics.median(seconds), peak / 2**30, extra


def main() -> None:
    """Measure and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, help="pixels; 256 on the CPU, 1024 on CUDA unless given")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    cpu = arguments.device == "cpu"
    side = arguments.side or (256 if cpu else 1024)
    what = f"one block of each kind, float32, {arguments.threads} thread(s)" if cpu else "whole, bfloat16"
    machine = "CPU" if cpu else torch.cuda.get_device_name()
    print(
        f"{machine}, torch {torch.__version__}: FLUX.1-dev, {what}, {side} x {side} pixels, {arguments.steps} steps\n"
    )
    print("| method | seconds per image | over bare | peak GiB | extra parameters |")
    print("|---|---|---|---|---|", flush=True)
    bare = None
    for method in METHODS:
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            order = (method, arguments.device, side, arguments.steps, arguments.repeats, arguments.threads)
            seconds, peak, extra = alone.apply(measure, order)
        bare = bare or seconds
        print(f"| {method} | {seconds:.2f} | {seconds / bare:.2f} | {peak:.1f} | {extra / 1e6:.0f} M |", flush=True)


if __name__ == "__main__":
    main()
