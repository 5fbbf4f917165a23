"""Few drawn scenes and random parts, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinco.toy.drawing.data import SceneSet, draw_scenes
from pinco.toy.model.assemble import ToyParts
from pinco.toy.model.untrained import make_untrained, untrained_parts


@pytest.fixture(scope="session")
def sets() -> dict[tuple[int, int], SceneSet]:
    """Ten scenes: six square, two lying, two standing. Do not write into them."""
    return draw_scenes(10, seed=5)


@pytest.fixture
def parts() -> ToyParts:
    """Random parts that nobody else touches."""
    return untrained_parts(0)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete untrained toy on disk, for reading only."""
    return make_untrained(tmp_path_factory.mktemp("untrained"))
