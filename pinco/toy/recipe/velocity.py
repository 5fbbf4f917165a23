"""The velocity error of an assembled toy, with and without its adapter, all by one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pinco.adapter.adapter import PincoAdapter
from pinco.generation.builtin import ADAPTER, BACKBONE
from pinco.pipelines.loading import load_pipeline
from pinco.toy.drawing.data import INSTRUMENT_SEED, draw_scenes
from pinco.toy.model.backbone import predict
from pinco.toy.recipe.encode import encode_scenes
from pinco.training.adapter_task import AdapterTask
from pinco.training.dataset import Batch
from pinco.training.losses import Noised
from pinco.training.validation import validation_by_region

HEADING = "## Velocity error"
SCENES = 100
BARE, WITH_ADAPTER = "backbone alone", "with the adapter"


@dataclass(frozen=True)
class VelocityLine:
    """One line of the table.

    Attributes:
        name: What was measured.
        loss: Mean square error of the velocity over all tokens.
        subject: Over tokens that are mostly product.
        boundary: Over tokens between product and background.
        background: Over tokens without product.
        gain: Mean growth of the adapted attentions' outputs; None without an adapter.
    """

    name: str
    loss: float
    subject: float
    boundary: float
    background: float
    gain: float | None = None


@dataclass(frozen=True)
class VelocityError:
    """The table, and by what it was measured.

    Attributes:
        scenes: How many, of all sizes.
        seed: Of their drawing.
        shift: Timestep shift of the noise levels: the backbone scheduler's.
        lines: All on the same scenes, prompts, noise and noise levels.
    """

    scenes: int
    seed: int
    shift: float
    lines: tuple[VelocityLine, ...]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> VelocityError:
        """Read what `asdict` wrote."""
        return cls(**{**values, "lines": tuple(VelocityLine(**line) for line in values["lines"])})


def velocity_error(toy: Path, scenes: int = SCENES, cache: Path | None = None) -> VelocityError:
    """Measure the weights that lie in a toy's folder.

    Args:
        toy: Folder of the assembled toy.
        scenes: How many validation scenes to draw. Training sees none of them.
        cache: Where drawn scenes are kept.
    """
    pipe = load_pipeline(toy / BACKBONE).pipe
    adapter = PincoAdapter.from_pretrained(toy / ADAPTER)
    sets = draw_scenes(scenes, INSTRUMENT_SEED, 1, cache)
    data = encode_scenes(sets, pipe.vae, pipe.text_encoder, pipe.text_encoder_2, pipe.tokenizer)
    shift = float(pipe.scheduler.config.shift)

    def velocity(noised: Noised, batch: Batch, extra: Mapping[str, Any] | None = None) -> torch.Tensor:
        return predict(pipe.transformer, noised, batch, extra)

    bare = validation_by_region(velocity, data, shift=shift)
    adapter.attach(pipe.transformer)
    with_adapter = AdapterTask(adapter, velocity, data, data, validation_shift=shift).validate()
    lines = (VelocityLine(BARE, **bare), VelocityLine(WITH_ADAPTER, **with_adapter))
    return VelocityError(scenes, INSTRUMENT_SEED, shift, lines)


def velocity_section(error: VelocityError) -> list[str]:
    """The part of the card, from its heading on."""
    bare, adapted = error.lines
    change = adapted.background / bare.background - 1
    more = "more" if change > 0 else "less"
    return [
        HEADING,
        "",
        "Mean square error of the velocity, of the weights in this folder; every line on the same "
        f"{error.scenes} validation scenes (seed {error.seed}, drawn for this, never trained on), each with its own "
        f"prompt, with the same noise and noise levels: logit-normal, timestep shift {error.shift:g}, the scheduler's "
        "own. Subject, boundary and background are the tokens that are mostly product, those around its outline, and "
        "the rest. Gain is the mean growth of the adapted attentions' outputs. Measured by "
        "`python -m pinco.toy.recipe.card DIR`.",
        "",
        "| | all | subject | boundary | background | gain |",
        "|---|---|---|---|---|---|",
        *(_row(line) for line in error.lines),
        "",
        f"The adapter lowers the error on the subject to {adapted.subject / bare.subject:.0%} of the backbone's. On "
        f"the background it makes {abs(change):.1%} {more} error than the backbone alone.",
    ]


def _row(line: VelocityLine) -> str:
    figures = " | ".join(f"{value:.3f}" for value in (line.loss, line.subject, line.boundary, line.background))
    return f"| {line.name} | {figures} | {'' if line.gain is None else f'{line.gain:.2f}'} |"
