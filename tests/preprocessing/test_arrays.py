from __future__ import annotations

from preprocessing.arrays import NEUTRAL


def test_neutral_is_the_middle_of_the_range_that_a_vae_sees() -> None:
    assert abs(NEUTRAL / 127.5 - 1.0) < 0.5 / 127.5 + 1e-9
