from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from pinco.adapter.config import BackboneDims, BackboneMismatchError, PincoConfig, upgraded

DIMS = BackboneDims("mine", 32, 2, 16, 5, 16, 2, 8)


def _config(**changes: Any) -> PincoConfig:
    values: dict[str, Any] = asdict(DIMS) | dict(
        layers=(0, 4), rank=None, gate="head", anchor=True, prune=True, mask_dilation=1, semantic="vae", shape="conv",
        use_mask=True, use_depth=True, use_sobel=True, mix="one", subject_dim=32, shape_channels=8,
    )  # fmt: skip
    return PincoConfig(**(values | changes))


def test_the_backbones_part_and_what_follows_from_it() -> None:
    assert _config().backbone == DIMS
    assert (DIMS.token_stride, DIMS.token_channels, DIMS.depth) == (16, 64, 5)


def test_a_registered_config_comes_back_typed() -> None:
    registered = asdict(_config()) | {"layers": [0, 4], "_class_name": "PincoAdapter"}
    assert PincoConfig.from_registered(registered) == _config()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gate": "token"}, "gate must be one of head, layer, not 'token'"),
        ({"semantic": "clip"}, "semantic must be one of vae, none"),
        ({"shape": "unet"}, "shape must be one of conv, vae, none"),
        ({"key_norm": "l2"}, "key_norm must be one of rms, layer, none"),
        ({"mix": "half"}, "mix must be one of one, complement"),
        ({"inner_dim": 48}, "inner_dim 48 is not 2 heads of 16"),
        ({"layers": (5,)}, "distinct numbers from 0 to 4"),
        ({"layers": (-1,)}, "distinct numbers from 0 to 4"),
        ({"layers": (1, 1)}, "distinct"),
        ({"layers": ()}, "at least one"),
        ({"rank": 0}, "rank must lie between 1 and 32"),
        ({"rank": 33}, "rank must lie between 1 and 32"),
        ({"semantic": "none", "shape": "none"}, "no branch is left"),
        ({"use_mask": False, "use_depth": False, "use_sobel": False}, "at least one of use_mask"),
        ({"mask_dilation": -1}, "counted in tokens"),
        ({"vae_scale_factor": 6}, "12 pixels per token is no power of 2"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _config(**changes)


def test_a_mismatch_names_both_sides_and_the_difference() -> None:
    error = BackboneMismatchError(DIMS, replace(DIMS, depth=19, family="other"))
    text = str(error)
    assert "differ in family, depth" in text
    assert "adapter:  family=mine" in text and "backbone: family=other" in text
    assert "depth=5" in text and "depth=19" in text


def test_a_depth_in_two_numbers_becomes_one() -> None:
    old = {"family": "mine", "num_layers": 2, "num_single_layers": 3}
    assert upgraded(old) == {"family": "mine", "depth": 5}
    assert upgraded(upgraded(old)) == upgraded(old) and "num_layers" in old
