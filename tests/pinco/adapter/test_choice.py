from __future__ import annotations

from typing import Any

import pytest

from pinco.adapter.choice import adapter_config, layer_numbers, usual_rank


def test_small_backbones_get_full_rank_and_large_ones_128() -> None:
    assert usual_rank(192, 192) is None and usual_rank(1024, 1024) is None
    assert usual_rank(1408, 1408) == 128
    assert usual_rank(96, 3072) == 96, "no more than the subject tokens have"


def test_the_configuration_holds_the_backbones_sizes_and_the_choices(transformer: Any) -> None:
    config = adapter_config(transformer, None, layers=[1, 0], rank=3)
    assert (config["layers"], config["rank"], config["subject_dim"]) == ((0, 1), 3, config["inner_dim"])
    assert adapter_config(transformer, None)["rank"] is None
    assert adapter_config(transformer, None, subject_dim=8)["subject_dim"] == 8


def test_what_cannot_be_chosen(transformer: Any) -> None:
    with pytest.raises(ValueError, match=r"rank must be a whole number, 'auto', or None for full rank, not 'low'"):
        adapter_config(transformer, None, rank="low")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layers must be all, first or layer numbers, not 'last'"):
        layer_numbers("last", {"all": range(3), "first": range(1)})
