from __future__ import annotations

import json

from pinco.generation.builtin import ADAPTER, BACKBONE, CLASSIFIER, NAME, SEGMENTER, assets


def test_the_weights_lie_where_it_says() -> None:
    index = json.loads((assets() / BACKBONE / "model_index.json").read_text())
    assert index["_class_name"].endswith("Pipeline")
    assert all((assets() / part / "config.json").is_file() for part in (ADAPTER, SEGMENTER, CLASSIFIER))


def test_the_name_in_manifests_never_changes() -> None:
    assert NAME == "toy"  # replay finds the built-in weights by it
