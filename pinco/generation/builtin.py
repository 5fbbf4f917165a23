"""Where the built-in model's weights lie. They ship with the package; `pinco.toy` makes them."""

from __future__ import annotations

from pathlib import Path

NAME = "toy"
"""What manifests call the built-in backbone."""

BACKBONE, ADAPTER, SEGMENTER, CLASSIFIER = "backbone", "adapter", "segmenter", "classifier"


def assets() -> Path:
    """Folder of the shipped weights: `backbone/` (a diffusers pipeline), `adapter/`, `segmenter/`, `classifier/`."""
    return Path(__file__).parent.parent / "toy" / "assets"
