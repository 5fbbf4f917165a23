from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinco.pipelines.defaults import _KINDS, DEFAULTS_FILE, GenerationDefaults

FAMILY = GenerationDefaults(steps=28, guidance=3.5, true_cfg=1.0, max_sequence_length=512, working_pixels=1 << 20)


def _write(folder: Path, values: Any) -> None:
    (folder / DEFAULTS_FILE).write_text(values if isinstance(values, str) else json.dumps(values))


def test_without_a_file_the_family_decides(tmp_path: Path) -> None:
    assert GenerationDefaults.read(tmp_path, FAMILY) is FAMILY


def test_a_hub_id_has_no_file_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert GenerationDefaults.read("someone/flux", FAMILY) is FAMILY


def test_a_file_overrides_what_it_names(tmp_path: Path) -> None:
    _write(tmp_path, {"steps": 12, "true_cfg": 2, "segmenter": "../segmenter"})
    assert GenerationDefaults.read(tmp_path, FAMILY) == replace(FAMILY, steps=12, true_cfg=2, segmenter="../segmenter")


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    defaults = replace(FAMILY, steps=3, blending=True, segmenter="segmenter")
    assert defaults.write(tmp_path) == tmp_path / DEFAULTS_FILE
    assert GenerationDefaults.read(tmp_path, FAMILY) == defaults


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 12}, "unknown entry 'step'; known: steps, guidance"),
        ({"steps": 12.5}, "steps must be int, not 12.5"),
        ({"steps": True}, "steps must be int, not True"),
        ({"blending": 1}, "blending must be bool, not 1"),
        ({"segmenter": 3}, "segmenter must be str or null, not 3"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"max_sequence_length": 513}, "between 1 and 512"),
        ({"working_pixels": 0}, "working_pixels must be positive"),
        ([1], "one JSON object"),
        ("{", "Expecting"),
    ],
)
def test_a_bad_file_is_named_with_its_entry(tmp_path: Path, values: Any, message: str) -> None:
    _write(tmp_path, values)
    with pytest.raises(ValueError, match=message) as caught:
        GenerationDefaults.read(tmp_path, FAMILY)
    assert str(tmp_path / DEFAULTS_FILE) in str(caught.value)


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from([*_KINDS, "other"]), st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    )
)
def test_any_json_is_either_taken_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    _write(folder, values)
    try:
        read = GenerationDefaults.read(folder, FAMILY)
    except ValueError as problem:
        assert DEFAULTS_FILE in str(problem)
    else:
        assert all(getattr(read, name) == value for name, value in values.items())


def test_a_request_takes_the_defaults_and_what_is_given() -> None:
    request = FAMILY.request("in snow", seed=5, negative="blurry", steps=2)
    assert (request.prompt, request.negative, request.seed, request.steps) == ("in snow", "blurry", 5, 2)
    assert (request.guidance, request.true_cfg, request.blending) == (3.5, 1.0, False)
    assert FAMILY.request("", seed=0, blending=True, guidance=0.0, true_cfg=3.0).guidance == 0.0


def test_planning_reads_them_without_torch() -> None:
    code = "import sys, pinco.pipelines.defaults, pinco.generation.fingerprint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
