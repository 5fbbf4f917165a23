"""The built-in default: procedural product scenes, and a small trained backbone with its adapter for any machine."""

from __future__ import annotations

from pathlib import Path

BACKBONE, ADAPTER, SEGMENTER, CLASSIFIER = "backbone", "adapter", "segmenter", "classifier"


def assets() -> Path:
    """Folder of the shipped weights: `backbone/` (a FluxPipeline), `adapter/`, `segmenter/`, `classifier/`."""
    return Path(__file__).parent / "assets"
