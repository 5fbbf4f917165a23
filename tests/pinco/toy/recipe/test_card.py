from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file

from pinco.evaluation.metrics import SubjectMeasures
from pinco.toy.drawing.captions import vocabulary
from pinco.toy.drawing.places import PLACES
from pinco.toy.drawing.products import COLOURS, KINDS
from pinco.toy.model.untrained import make_untrained
from pinco.toy.recipe.card import CARD, FIGURES, SHEET, contact_sheet, remeasure, write_card
from pinco.toy.recipe.quality import Line, Pair, held_out_pairs
from pinco.toy.recipe.stages import STAGES
from pinco.toy.recipe.velocity import HEADING, VelocityError, VelocityLine, velocity_error, velocity_section

LINES = [
    Line("drawn scenes", 0.99, 0.12, SubjectMeasures(0.01, 0.02, 99.0)),
    Line("VAE round trip", 0.98, 0.12, SubjectMeasures(0.012, 0.02, 30.0)),
    Line("bare", 0.95, 0.12, SubjectMeasures(0.6, 0.5, 9.0)),
    Line("bare + blending", 0.93, 0.11, SubjectMeasures(0.4, 0.1, 22.0)),
    Line("Pinco", 0.92, 0.11, SubjectMeasures(0.1, 0.05, 27.0)),
    Line("Pinco + blending", 0.91, 0.11, SubjectMeasures(0.08, 0.03, 29.0)),
]
VELOCITY = VelocityError(
    12, 5, 1.5, (VelocityLine("backbone alone", 0.5, 0.8, 0.6, 0.2), VelocityLine("with", 0.4, 0.2, 0.5, 0.25, 1.4))
)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return held_out_pairs(6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An untrained toy, and a run's folder with the logs that five stages leave."""
    toy, work = (tmp_path_factory.mktemp(name) for name in ("toy", "work"))
    make_untrained(toy)
    for number, stage in enumerate(STAGES):
        (work / stage).mkdir()
        records = [
            {"step": 1, "loss": 2.5, "seconds": 60.0},
            {"step": 2, "loss": 1.25 + number, "seconds": 90.0 + 60 * number},
            {"step": 2, "validation/score": 0.125 * (number + 1)},
        ]
        (work / stage / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return toy, work


def _card(made: tuple[Path, Path], pairs: list[Pair], pinco: Line) -> str:
    toy, work = made
    lines = [pinco if line.name == "Pinco" else line for line in LINES]
    pictures = {line.name: [p.scene for p in pairs] for line in lines}
    write_card(toy, work, "smoke", 7, 2, lines, pictures, pairs, VELOCITY)
    return (toy / CARD).read_text()


def _bars(text: str) -> list[list[str]]:
    table = text[text.index("| bar | wanted") :].splitlines()[2:5]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def test_limits_that_are_met(made: tuple[Path, Path], pairs: list[Pair]) -> None:
    bars = _bars(_card(made, pairs, LINES[4]))
    assert bars == [
        ["place read", "at least 90%", "92.0%", "met"],
        ["extension over bare + blending's", "at most 0.5", "0.25", "met"],
        ["in-mask PSNR under the VAE's", "at most 4 dB", "3.0 dB", "met"],
    ]


@pytest.mark.parametrize(
    ("number", "change", "measured"),
    [
        (0, {"place": 0.89}, "89.0%"),
        (1, {"subject": SubjectMeasures(0.24, 0.05, 27.0)}, "0.60"),
        (2, {"subject": SubjectMeasures(0.1, 0.05, 25.5)}, "4.5 dB"),
    ],
)
def test_a_limit_that_is_not_met_is_marked_with_its_value(
    made: tuple[Path, Path], pairs: list[Pair], number: int, change: dict[str, object], measured: str
) -> None:
    bars = _bars(_card(made, pairs, replace(LINES[4], **change)))
    assert [bar[3] for bar in bars] == ["**not met**" if i == number else "met" for i in range(3)]
    assert bars[number][2] == measured


def test_a_limit_met_exactly_is_met(made: tuple[Path, Path], pairs: list[Pair]) -> None:
    line = Line("Pinco", 0.9, 0.1, SubjectMeasures(0.2, 0.1, 26.0))
    assert [bar[3] for bar in _bars(_card(made, pairs, line))] == ["met"] * 3


def test_the_card_holds_every_line_stage_and_part(made: tuple[Path, Path], pairs: list[Pair]) -> None:
    text = _card(made, pairs, LINES[4])
    toy = made[0]
    for line in LINES:
        (row,) = re.findall(rf"^\| {re.escape(line.name)} \|(.*)$", text, re.M)
        assert f"{line.place:.1%} | {line.shuffled:.1%} | {line.subject.extension:.3f}" in row
    training = text[text.index("## Training") : text.index("## Measured quality")]
    for number, stage in enumerate(STAGES):
        (row,) = re.findall(rf"^\| {stage} \|(.*)$", training, re.M)
        cells = [c.strip() for c in row.strip("|").split("|")]
        assert cells[0:2] == ["2", "2"]  # steps and batch of the smoke preset
        assert cells[3] == f"{(90 + 60 * number) / 60:.1f}"
        velocity = stage in ("backbone", "adapter", "refinement")  # their logs hold another stage's protocol at most
        assert cells[5] == ("velocity error, below" if velocity else f"score {0.125 * (number + 1):.3g}")
    assert "\n".join(velocity_section(VELOCITY)) in text
    for file in toy.rglob("*.safetensors"):
        count = sum(t.numel() for t in load_file(file).values())
        assert f"| {file.relative_to(toy).parent} | `{file.name}` | {count:,} |" in text
    total = sum(f.stat().st_size for f in toy.rglob("*.safetensors")) / 1e6
    assert f"| all | | | {total:.1f} |" in text
    assert "seed 7" in text
    assert "1: 2.500  2: 1.250" in text


def test_figures_agree_with_the_lines(made: tuple[Path, Path], pairs: list[Pair]) -> None:
    text = _card(made, pairs, LINES[4])
    figures = json.loads((made[0] / FIGURES).read_text())
    assert [Line(**{**line, "subject": SubjectMeasures(**line["subject"])}) for line in figures["lines"]] == LINES
    assert (figures["pairs"], figures["preset"], figures["seed"]) == (6, "smoke", 7)
    assert VelocityError.from_json(figures["velocity"]) == VELOCITY
    assert set(figures["instruments"]) == {"segmenter_iou_mean", "segmenter_iou_p10", "classifier_accuracy"}
    assert f"mean IoU {figures['instruments']['segmenter_iou_mean']:.3f}" in text
    assert f"{figures['instruments']['classifier_accuracy']:.1%} of" in text


def test_measuring_again_replaces_that_part_alone(
    made: tuple[Path, Path], pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, toy = _card(made, pairs, LINES[4]), made[0]
    figures = json.loads((toy / FIGURES).read_text())
    monkeypatch.setattr("pinco.toy.recipe.card.velocity_error", lambda folder: velocity_error(folder, 5))
    measured = remeasure(toy)
    assert measured.scenes == 5 and measured != VELOCITY
    again = (toy / CARD).read_text()
    old, new = ("\n".join(velocity_section(error)) for error in (VELOCITY, measured))
    assert again == before.replace(old, new) != before
    kept = json.loads((toy / FIGURES).read_text())
    assert VelocityError.from_json(kept.pop("velocity")) == measured
    assert kept == {name: value for name, value in figures.items() if name != "velocity"}
    remeasure(toy)
    assert (toy / CARD).read_text() == again
    (toy / CARD).write_text("# A card without it\n")
    with pytest.raises(ValueError, match=f"has no part '{HEADING}'"):
        remeasure(toy)


def test_the_card_does_not_overstate_what_the_toy_knows(made: tuple[Path, Path], pairs: list[Pair]) -> None:
    text = " ".join(_card(made, pairs, LINES[4]).split())
    numbers = {6: "six", 8: "eight"}
    assert f"{numbers[len(KINDS)]} kinds of things" in text
    assert f"{numbers[len(PLACES)]} places" in text
    assert f"{len(vocabulary(list(KINDS), list(COLOURS)))} words" in text


def test_the_sheet_shows_every_variant_of_every_square_pair(made: tuple[Path, Path], pairs: list[Pair]) -> None:
    pictures = {name: [np.full(p.scene.shape, 40 * i, np.uint8) for p in pairs] for i, name in enumerate("abc")}
    sheet = contact_sheet(pictures, pairs)
    assert sheet.shape == (128 * 4, 150 + 128 * 4, 3)  # the subject and three variants; four of the six are square
    for row in range(1, 4):
        assert (sheet[128 * row : 128 * (row + 1), 150:] == 40 * (row - 1)).all()
    opaque = pairs[0].alpha == 255
    assert np.array_equal(sheet[:128, 150:278][opaque], pairs[0].scene[opaque])
    assert contact_sheet(pictures, pairs, columns=2).shape == (128 * 4, 150 + 128 * 2, 3)
    _card(made, pairs, LINES[4])
    assert cv2.imread(str(made[0] / SHEET)).shape == (128 * 7, 150 + 128 * 4, 3)
