"""`pinco toy train`: trains the shipped toy again from a seed, and writes its model card with measured figures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from pinco.errors import PincoError
from pinco.toy.model.assemble import ToyParts
from pinco.toy.recipe.card import write_card
from pinco.toy.recipe.quality import quality_table
from pinco.toy.recipe.stages import PRESETS, STAGES, Workshop
from pinco.toy.recipe.velocity import velocity_error
from pinco.training.loop import check_resumable

_WORK, _TOY = "work", "toy"
# Held-out pairs of the quality table; the smoke preset only shows that the table can be made.
_PAIRS = {"full": 256, "smoke": 2}


class UnknownPresetError(PincoError, ValueError):
    """A preset of the recipe that there is not."""

    code = "unknown_preset"


def train_toy(out: Path, seed: int = 0, preset: str = "full", ranks: int | None = None) -> Path:
    """Train every stage, assemble the toy, measure it, write its card.

    After a stop at any moment, the same call continues from the newest checkpoint.

    Args:
        out: scenes, checkpoints and logs are written to `out/work`, the toy (as in `pinco/toy/assets`) to `out/toy`.
        seed: 0 is the shipped toy.
        preset: a key of `stages.PRESETS`.
        ranks: one-thread processes that share every batch; all processors but at most 2 by default, because the
            shipped toy was made by 2 and another number draws other batches.

    Returns:
        `out/toy`.

    Raises:
        UnknownPresetError: there is no such preset.
        CheckpointMismatchError: `out` holds a run with other settings.
    """
    if preset not in PRESETS:
        raise UnknownPresetError(f"unknown preset {preset!r}; there are {', '.join(PRESETS)}")
    ranks = ranks or min(2, os.cpu_count() or 1)
    folder = out / _WORK
    for stage in STAGES:  # here, because from the processes below only a traceback would come
        check_resumable(folder / stage, getattr(PRESETS[preset].with_seed(seed), stage), ranks)
    folder.mkdir(parents=True, exist_ok=True)
    rendezvous = folder / f"rendezvous-{os.getpid()}"
    try:
        spawn(_rank, (ranks, rendezvous, folder, out / _TOY, seed, preset), nprocs=ranks)
    finally:
        rendezvous.unlink(missing_ok=True)
    lines, pictures, pairs = quality_table(out / _TOY, _PAIRS[preset], ranks, folder)
    velocity = velocity_error(out / _TOY, PRESETS[preset].validation_scenes, folder)
    write_card(out / _TOY, folder, preset, seed, ranks, lines, pictures, pairs, velocity)
    return out / _TOY


def _rank(number: int, ranks: int, rendezvous: Path, folder: Path, toy: Path, seed: int, preset: str) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous.absolute()}", rank=number, world_size=ranks)
    workshop = Workshop(folder, PRESETS[preset].with_seed(seed), workers=ranks)
    vae = workshop.vae()
    workshop.decoder(vae)
    transformer = workshop.backbone(vae)
    adapter = workshop.adapter(vae, transformer)
    segmenter, classifier = workshop.instruments()
    if number == 0:
        clip, t5, tokenizer = workshop.text()
        ToyParts(vae.cpu(), clip, t5, tokenizer, transformer.cpu(), adapter.cpu(), segmenter, classifier).save(toy)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    train_toy(Path(sys.argv[1]))
