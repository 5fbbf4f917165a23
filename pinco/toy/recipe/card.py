"""The toy's model card and contact sheet: sizes, settings, log and measured quality, all read from the training run.

`python -m pinco.toy.recipe.card DIR` measures the velocity error of the toy in DIR again, and rewrites that part of its
card and figures. It needs nothing of the training run.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from pinco.evaluation.segmenter import Segmenter
from pinco.generation.builtin import CLASSIFIER, SEGMENTER
from pinco.toy.drawing.captions import vocabulary
from pinco.toy.drawing.data import HELD_OUT_SEED, draw_scenes
from pinco.toy.drawing.products import COLOURS, KINDS
from pinco.toy.model.instruments import PlaceClassifier
from pinco.toy.recipe.instrument_tasks import ClassifierTask, segmenter_ious
from pinco.toy.recipe.quality import Line, Pair
from pinco.toy.recipe.stages import PRESETS, STAGES
from pinco.toy.recipe.velocity import HEADING, VelocityError, velocity_error, velocity_section
from preprocessing.blend import over_neutral

U8 = NDArray[np.uint8]
CARD, FIGURES, SHEET = "README.md", "quality.json", "quality.jpg"

# Their validation is the velocity error, which has a table of its own with all of them measured alike.
_VELOCITY_STAGES = ("backbone", "adapter", "refinement")

# Limits that the toy's quality has to meet, as shares or dB.
PLACE_BAR, EXTENSION_BAR, PSNR_BAR = 0.90, 0.5, 4.0


def write_card(
    toy: Path,
    work: Path,
    preset: str,
    seed: int,
    ranks: int,
    lines: Sequence[Line],
    pictures: dict[str, list[U8]],
    pairs: Sequence[Pair],
    velocity: VelocityError,
) -> None:
    """Write `README.md`, `quality.json` and `quality.jpg` into the toy's folder.

    Args:
        toy: folder of the assembled toy.
        work: the run's folder, with one sub-folder a stage.
        preset: name of the recipe.
        seed: of the training run.
        ranks: processes that trained it.
        lines: the quality table.
        pictures: raw pictures by line.
        pairs: the product and place of each picture.
        velocity: the velocity error of the toy's weights.
    """
    instruments = _instrument_figures(toy, work, len(pairs))
    figures = {
        "lines": [asdict(line) for line in lines],
        "instruments": instruments,
        "pairs": len(pairs),
        "preset": preset,
        "seed": seed,
        "velocity": asdict(velocity),
    }
    (toy / FIGURES).write_text(json.dumps(figures, indent=1) + "\n")
    sheet = contact_sheet(pictures, pairs)
    cv2.imwrite(str(toy / SHEET), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    (toy / CARD).write_text(
        "\n".join(
            [
                "# Model card of the toy backbone, its Pinco adapter and its instruments",
                "",
                _INTRODUCTION.format(words=len(vocabulary(list(KINDS), list(COLOURS)))),
                "",
                "## Parts",
                "",
                *_parts(toy),
                "",
                "## Training",
                "",
                *_training(work, preset, seed, ranks),
                "",
                *velocity_section(velocity),
                "",
                "## Measured quality",
                "",
                *_quality(lines, instruments, len(pairs)),
                "",
            ]
        )
    )


def remeasure(toy: Path) -> VelocityError:
    """Measure a toy again, and put the table in the place of the old one in its card and figures.

    Raises:
        ValueError: The card has no such part.
    """
    card = (toy / CARD).read_text(encoding="utf-8")
    place = re.search(rf"^{HEADING}\n.*?(?=^## |\Z)", card, re.M | re.S)
    if place is None:
        raise ValueError(f"{toy / CARD} has no part {HEADING!r} to be replaced")
    error = velocity_error(toy)
    section = "\n".join([*velocity_section(error), "", ""])
    (toy / CARD).write_text(card[: place.start()] + section + card[place.end() :], encoding="utf-8")
    figures = json.loads((toy / FIGURES).read_text(encoding="utf-8"))
    figures["velocity"] = asdict(error)
    (toy / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return error


_INTRODUCTION = """Everything here was trained from scratch on procedural scenes (`pinco/toy/drawing/scenes.py`); no
photograph and no foreign weights went in. It exists so that the whole pipeline can run, be tested and understood on any
machine. It is not a product: it knows six kinds of things, eight places and {words} words. `pinco toy train` makes it
again."""


def _instrument_figures(toy: Path, work: Path, count: int) -> dict[str, float]:
    """Accuracy and IoU on the held-out scenes, which training and its validation never saw."""
    held_out = draw_scenes(count, HELD_OUT_SEED, 1, work)
    segmenter = Segmenter.from_pretrained(toy / SEGMENTER).eval()
    classifier = PlaceClassifier.from_pretrained(toy / CLASSIFIER).eval()
    ious = segmenter_ious(segmenter, held_out)
    return {
        "segmenter_iou_mean": float(ious.mean()),
        "segmenter_iou_p10": float(np.quantile(ious, 0.1)),
        "classifier_accuracy": ClassifierTask(classifier, held_out, held_out).validate()["accuracy"],
    }


def _parts(toy: Path) -> list[str]:
    rows = ["| part | file | parameters | MB |", "|---|---|---|---|"]
    total = 0
    for file in sorted(toy.rglob("*.safetensors")):
        with safe_open(str(file), "pt") as tensors:
            count = sum(int(np.prod(tensors.get_slice(k).get_shape())) for k in tensors.keys())  # noqa: SIM118
        total += file.stat().st_size
        name = file.relative_to(toy)
        rows.append(f"| {name.parent} | `{name.name}` | {count:,} | {file.stat().st_size / 1e6:.1f} |")
    return [*rows, f"| all | | | {total / 1e6:.1f} |"]


def _training(work: Path, preset: str, seed: int, ranks: int) -> list[str]:
    recipe = PRESETS[preset]
    text = [
        f"Preset `{preset}`, seed {seed}, {recipe.scenes:,} drawn scenes (128 x 128, 160 x 96 and 96 x 160), "
        f"{ranks} processes of one thread on {platform.machine()}, torch {torch.__version__.split('+')[0]}.",
        "",
        "| stage | steps | batch | learning rate | minutes | samples seen | last validation |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage in STAGES:
        config = getattr(recipe, stage)
        records = [json.loads(line) for line in (work / stage / "log.jsonl").read_text().splitlines()]
        seconds = max(r["seconds"] for r in records if "seconds" in r)
        last = {k.removeprefix("validation/"): v for k, v in records[-1].items() if k.startswith("validation/")}
        figures = ", ".join(f"{k} {v:.3g}" for k, v in last.items())
        if stage in _VELOCITY_STAGES:
            figures = "velocity error, below"
        text.append(
            f"| {stage} | {config.steps} | {config.batch_size} | {config.learning_rate:g} | {seconds / 60:.1f} "
            f"| {config.steps * config.batch_size:,} | {figures} |"
        )
    text += ["", f"{_CURVE_NOTE}:", "", "```", *_curve(work), "```"]
    return text


_CURVE_NOTE = (
    "Loss by step; stages weigh the subject and draw noise levels differently, so only figures of one line compare"
)


def _curve(work: Path) -> list[str]:
    lines = []
    for stage in STAGES:
        records = [json.loads(line) for line in (work / stage / "log.jsonl").read_text().splitlines()]
        losses = [(r["step"], r["loss"]) for r in records if "loss" in r]
        chosen = losses[:: max(1, len(losses) // 8)]
        lines.append(f"{stage:<11}" + "  ".join(f"{step}: {loss:.3f}" for step, loss in chosen))
    return lines


def _quality(lines: Sequence[Line], instruments: dict[str, float], pairs: int) -> list[str]:
    by_name = {line.name: line for line in lines}
    pinco, peer, ceiling = by_name["Pinco"], by_name["bare + blending"], by_name["VAE round trip"]
    below = ceiling.subject.psnr - pinco.subject.psnr
    ratio = pinco.subject.extension / max(peer.subject.extension, 1e-9)
    rows = [
        f"{pairs} held-out product-place pairs, raw output, nothing pasted back, the same prompts and seeds "
        "in every line. Place: share of pictures whose place the classifier reads as the prompted one, the product "
        "blanked; control: the same, judged against another pair's prompt. Extension, shrinkage and in-mask PSNR "
        "are medians; the first line is the instruments' own floor and ceiling.",
        "",
        "| variant | place | control | extension | shrinkage | in-mask PSNR, dB |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {v.name} | {v.place:.1%} | {v.shuffled:.1%} | {v.subject.extension:.3f} | {v.subject.shrinkage:.3f} "
        f"| {v.subject.psnr:.1f} |"
        for v in lines
    ]
    return [
        *rows,
        "",
        f"Segmenter: mean IoU {instruments['segmenter_iou_mean']:.3f}, tenth percentile "
        f"{instruments['segmenter_iou_p10']:.3f}. Place classifier: {instruments['classifier_accuracy']:.1%} of "
        "held-out scenes with the product blanked.",
        "",
        "| bar | wanted | measured | |",
        "|---|---|---|---|",
        _bar("place read", f"at least {PLACE_BAR:.0%}", f"{pinco.place:.1%}", pinco.place >= PLACE_BAR),
        _bar("extension over bare + blending's", f"at most {EXTENSION_BAR}", f"{ratio:.2f}", ratio <= EXTENSION_BAR),
        _bar("in-mask PSNR under the VAE's", f"at most {PSNR_BAR:.0f} dB", f"{below:.1f} dB", below <= PSNR_BAR),
    ]


def _bar(name: str, wanted: str, measured: str, met: bool) -> str:
    return f"| {name} | {wanted} | {measured} | {'met' if met else '**not met**'} |"


def contact_sheet(pictures: dict[str, list[U8]], pairs: Sequence[Pair], columns: int = 12) -> U8:
    """A picture with one row per variant and one column per pair; the first row shows the subject on neutral grey.

    Args:
        pictures: raw pictures by variant.
        pairs: what they show; only square ones are used.
        columns: how many pairs, at most.

    Returns:
        uint8 `[H, W, 3]`.
    """
    square = [i for i, p in enumerate(pairs) if p.scene.shape[:2] == (128, 128)][:columns]
    rows = [np.hstack([over_neutral(pairs[i].layer[..., :3], pairs[i].alpha) for i in square])]
    rows += [np.hstack([images[i] for i in square]) for images in pictures.values()]
    labels = ["subject", *pictures]
    return np.hstack([np.vstack([_label(text, 128) for text in labels]), np.vstack(rows)])


def _label(text: str, side: int) -> U8:
    tile = np.full((side, 150, 3), 255, np.uint8)
    cv2.putText(tile, text, (6, side // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    return tile


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("\n".join(velocity_section(remeasure(Path(sys.argv[1])))))
