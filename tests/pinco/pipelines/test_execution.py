from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pinco.pipelines.execution import (
    FEWEST_STEPS,
    PLAIN,
    PRESETS,
    TILED_FROM,
    Capabilities,
    Choice,
    Execution,
    ExecutionError,
)

GPU = Capabilities(caches=("first_block",), compile=True, accelerator=True)
CPU = Capabilities(caches=("first_block",), compile=True)
NOTHING = Capabilities(accelerator=True)


def test_it_starts_without_torch() -> None:
    code = "import sys, pinco.pipelines.execution; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_without_a_word_nothing_is_changed() -> None:
    assert Choice().execution(GPU) == PLAIN == Execution()
    assert Choice().steps(28) is None


@pytest.mark.parametrize(
    ("name", "value"), [("placement", "disk"), ("quantise", "int4"), ("cache", "all"), ("vae_tiling", "no")]
)
def test_unknown_values_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ExecutionError, match=rf"model\.{name} must be one of .*, not '{value}'"):
        Execution(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [{"quantise": "int8"}, {"compile": True}])
def test_single_layers_are_moved_only_as_they_are(other: Any) -> None:
    with pytest.raises(ExecutionError, match=r"offload_sequential moves single layers.*or take offload_model"):
        Execution(placement="offload_sequential", **other)


def test_tiles_begin_with_large_images() -> None:
    assert not PLAIN.tiles((1536, 1536)) and PLAIN.tiles((1536, 1552))
    assert TILED_FROM == 1536**2
    assert Execution(vae_tiling="on").tiles((64, 64)) and not Execution(vae_tiling="off").tiles((4096, 4096))


@pytest.mark.parametrize(
    ("preset", "steps", "cache", "compiled"),
    [
        ("quality", None, "none", False),
        ("balanced", 21, "none", True),
        ("fast", 17, "first_block", True),
        ("draft", 10, "first_block", False),
    ],
)
def test_a_preset_is_a_combination(preset: Any, steps: int | None, cache: str, compiled: bool) -> None:
    choice = Choice(preset=preset)
    execution = choice.execution(GPU)
    assert (choice.steps(28), execution.cache, execution.compile) == (steps, cache, compiled)
    assert set(PRESETS) == {"quality", "balanced", "fast", "draft"}


def test_few_steps_of_a_distilled_backbone_stay() -> None:
    assert [Choice(preset="draft").steps(usual) for usual in (1, 3, 4, 9, 50)] == [1, 3, 4, FEWEST_STEPS, 18]


def test_of_a_preset_only_what_is_there_counts() -> None:
    assert Choice(preset="fast").execution(NOTHING) == PLAIN
    assert Choice(preset="fast").execution(CPU) == Execution(cache="first_block"), "compiling is for accelerators"
    apart = Choice(preset="fast", placement="offload_sequential").execution(GPU)
    assert (apart.compile, apart.placement) == (False, "offload_sequential")


def test_what_is_said_goes_before_the_preset() -> None:
    choice = Choice(preset="fast", cache="none", compile=False, quantise="int8")
    assert choice.execution(GPU) == Execution(quantise="int8")
    assert Choice(preset="draft", compile=True).execution(CPU).compile


def test_what_is_said_must_be_there() -> None:
    with pytest.raises(ExecutionError, match=r"model\.cache: first_block is not there .* set it to none$"):
        Choice(cache="first_block").execution(NOTHING)
    with pytest.raises(ExecutionError, match=r"model\.compile is not there .* set it to false$"):
        Choice(compile=True).execution(NOTHING)
    with pytest.raises(ExecutionError, match=r"offload_sequential is not there .* set it to offload_model$"):
        Choice(placement="offload_sequential").execution(Capabilities(single_layers=False))
