"""Time subject-aware attention: the fused merge against two SDPA calls.

    python bench/merged_attention.py [--repeats 7] [--threads 1]

Prints a table per device: the CPU, and CUDA where there is one. "ratio" is the reference's time over the fused one's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pinco.adapter.attention import can_fuse, fused
from pinco.adapter.equation import reference


@dataclass(frozen=True)
class Case:
    """Sizes of one layer: `tokens` are text and image together; `padded` masks a third of the subject tokens."""

    name: str
    batch: int
    heads: int
    head_dim: int
    tokens: int
    subject_tokens: int
    dtype: torch.dtype
    padded: bool = False


CPU_CASES = (
    Case("toy training, all tokens", 48, 6, 32, 88, 64, torch.float32),
    Case("toy training, pruned", 48, 6, 32, 88, 24, torch.float32, padded=True),
    Case("toy inference, pruned", 1, 6, 32, 88, 24, torch.float32),
    Case("1024 tokens", 1, 8, 64, 1024, 512, torch.float32),
    Case("1024 tokens, bfloat16", 1, 8, 64, 1024, 512, torch.bfloat16),
)
CUDA_CASES = (
    Case("FLUX 512 px, all tokens", 1, 24, 128, 512 + 1024, 1024, torch.bfloat16),
    Case("FLUX 1024 px, pruned", 1, 24, 128, 512 + 4096, 1024, torch.bfloat16),
    Case("FLUX 1024 px, all tokens", 1, 24, 128, 512 + 4096, 4096, torch.bfloat16),
)


def _inputs(case: Case, device: str) -> tuple[list[Tensor], Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    lengths = (case.tokens,) * 3 + (case.subject_tokens,) * 2
    tensors = [
        torch.randn(case.batch, length, case.heads, case.head_dim, generator=generator)
        .to(device, case.dtype)
        .transpose(1, 2)
        .requires_grad_()
        for length in lengths
    ]
    b = torch.full((1, case.heads, 1, 1), 0.3, device=device, requires_grad=True)
    keep = None
    if case.padded:
        counts = torch.randint(
            2 * case.subject_tokens // 3, case.subject_tokens + 1, (case.batch, 1), generator=generator
        )
        keep = (torch.arange(case.subject_tokens) < counts).to(device)
    return [*tensors, torch.ones((), device=device), b], keep


def _milliseconds(runs: list[Callable[[], object]], device: str, repeats: int) -> list[float]:
    """The best time of each, taken in turns: other work on the machine only ever adds to a time."""
    best = [float("inf")] * len(runs)
    for repeat in range(repeats + 1):
        for number, run in enumerate(runs):
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:  # the first one warms up
                best[number] = min(best[number], time.perf_counter() - start)
    return [1000 * seconds for seconds in best]


def measure(case: Case, device: str, repeats: int) -> list[tuple[float, float]]:
    """`(reference, fused)` in milliseconds, forward alone and forward with backward."""
    tensors, keep = _inputs(case, device)
    if not can_fuse(tensors[0], keep):
        raise SystemExit(f"{case.name}: no fused kernel for this case on {device}")

    def forward(compute: Callable[..., Tensor]) -> Tensor:
        with torch.no_grad():
            return compute(*tensors, keep)

    def both(compute: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        learned = [tensor for tensor in tensors if tensor.requires_grad]
        return torch.autograd.grad(compute(*tensors, keep).sum(), learned)

    rows = []
    for step in (forward, both):
        slow, fast = _milliseconds([partial(step, compute) for compute in (reference, fused)], device, repeats)
        rows.append((slow, fast))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="timed runs per case; the best one counts")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    devices = {"cpu": CPU_CASES} | ({"cuda": CUDA_CASES} if torch.cuda.is_available() else {})
    for device, cases in devices.items():
        name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {arguments.threads} thread(s)"
        print(f"\n{name}, torch {torch.__version__}; milliseconds")
        print(f"{'':28}{'N + N_sub':>12}  {'pass':<12}{'two SDPA':>10}{'fused':>10}{'ratio':>8}")
        for case in cases:
            for step, (slow, fast) in zip(
                ("forward", "with backward"), measure(case, device, arguments.repeats), strict=True
            ):
                size = f"{case.tokens} + {case.subject_tokens}"
                print(f"{case.name:<28}{size:>12}  {step:<14}{slow:>8.2f}{fast:>10.2f}{slow / fast:>8.2f}")


if __name__ == "__main__":
    main()
