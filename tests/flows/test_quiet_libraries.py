from __future__ import annotations

import os
import subprocess
import sys


def _imported(**environment: str) -> str:
    code = "import flows.cli, diffusers; from diffusers import FluxTransformer2DModel"
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_VERBOSITY")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


def test_the_command_line_loads_its_libraries_in_silence() -> None:
    assert _imported() == ""


def test_a_person_may_ask_for_their_notes() -> None:
    assert "torchao" in _imported(DIFFUSERS_VERBOSITY="warning")
