from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pinco.adapter import PincoAdapter
from pinco.toy.drawing.data import INSTRUMENT_SEED
from pinco.toy.recipe.velocity import (
    BARE,
    HEADING,
    WITH_ADAPTER,
    VelocityError,
    VelocityLine,
    velocity_error,
    velocity_section,
)

ERROR = VelocityError(
    12, 5, 1.5, (VelocityLine(BARE, 0.5, 0.8, 0.6, 0.2), VelocityLine(WITH_ADAPTER, 0.4, 0.2, 0.5, 0.25, 1.4))
)


@pytest.fixture(scope="module")
def measured(toy: Path) -> VelocityError:
    return velocity_error(toy, 5)


def test_backbone_and_adapter_are_measured_alike_at_the_schedulers_shift(measured: VelocityError) -> None:
    assert (measured.scenes, measured.seed, measured.shift) == (5, INSTRUMENT_SEED, 1.0)
    bare, adapted = measured.lines
    assert (bare.name, adapted.name, bare.gain) == (BARE, WITH_ADAPTER, None)
    assert adapted.gain is not None and adapted.gain > 1
    assert all(getattr(bare, part) != getattr(adapted, part) for part in ("loss", "subject", "boundary", "background"))


def test_an_adapter_with_closed_gates_has_the_backbones_error(toy: Path, tmp_path: Path) -> None:
    """The protocol is one: where the adapter does nothing, every figure is the backbone's."""
    shutil.copytree(toy, tmp_path / "toy")
    adapter = PincoAdapter.from_pretrained(toy / "adapter")
    for number in adapter.settings.layers:
        adapter.layer(number).gate.value.data.zero_()
    adapter.save_pretrained(tmp_path / "toy" / "adapter")
    bare, adapted = velocity_error(tmp_path / "toy", 5).lines
    assert replace(adapted, name=bare.name, gain=None) == bare


def test_another_shift_of_the_scheduler_is_the_protocols(toy: Path, tmp_path: Path, measured: VelocityError) -> None:
    shutil.copytree(toy, tmp_path / "toy")
    file = tmp_path / "toy" / "backbone" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shift": 3.0}))
    other = velocity_error(tmp_path / "toy", 5)
    assert other.shift == 3.0
    for line, before in zip(other.lines, measured.lines, strict=True):
        assert line.loss != before.loss


def test_json_and_back() -> None:
    assert VelocityError.from_json(json.loads(json.dumps(asdict(ERROR)))) == ERROR


def test_the_section_says_how_it_was_measured_and_where_the_adapter_is_worse() -> None:
    text = "\n".join(velocity_section(ERROR))
    assert text.startswith(HEADING + "\n")
    assert "12 validation scenes (seed 5," in text and "timestep shift 1.5" in text
    assert "| backbone alone | 0.500 | 0.800 | 0.600 | 0.200 |  |" in text
    assert "| with the adapter | 0.400 | 0.200 | 0.500 | 0.250 | 1.40 |" in text
    assert "to 25% of the backbone's" in text and "25.0% more error" in text
    better = replace(ERROR, lines=(ERROR.lines[0], replace(ERROR.lines[1], background=0.1)))
    assert "50.0% less error" in "\n".join(velocity_section(better))
