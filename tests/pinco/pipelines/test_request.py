from __future__ import annotations

from typing import Any

import pytest

from pinco.pipelines.request import LARGEST_SEED, GenerationRequest


def _request(**changes: Any) -> GenerationRequest:
    values: dict[str, Any] = dict(
        prompt="on the beach", negative=None, seed=3, steps=4, guidance=3.5, true_cfg=1.0, blending=False
    )
    return GenerationRequest(**(values | changes))


def test_the_limits_are_allowed() -> None:
    _request(seed=0, steps=1, guidance=0.0)
    _request(seed=LARGEST_SEED)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"seed": -1}, ValueError, "seed must lie between 0"),
        ({"seed": LARGEST_SEED + 1}, ValueError, "seed must lie between 0"),
        ({"seed": 1.0}, TypeError, "seed must be a whole number, not 1.0"),
        ({"seed": True}, TypeError, "seed must be a whole number"),
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"steps": "4"}, TypeError, "steps must be a whole number, not '4'"),
        ({"guidance": -0.5}, ValueError, "guidance must be 0 or more"),
        ({"guidance": float("nan")}, ValueError, "guidance must be 0 or more"),
        ({"true_cfg": 0.5}, ValueError, r"true_cfg must be 1 \(off\) or more"),
        ({"true_cfg": float("inf")}, ValueError, "true_cfg"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        _request(**changes)
