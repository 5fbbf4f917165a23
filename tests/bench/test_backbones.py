"""The tables of `docs/backbones.md` are what `bench/backbones.py` computes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_page_shows_what_is_computed() -> None:
    spec = importlib.util.spec_from_file_location("bench_backbones", ROOT / "bench" / "backbones.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in module.tables(module.all_backbones()) if line and line not in page] == []
