from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinco.training.config import TrainingConfig


@pytest.mark.parametrize("name", ["steps", "batch_size", "checkpoint_every", "log_every"])
def test_counts_below_one_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        TrainingConfig(**({"steps": 10, "batch_size": 2, "learning_rate": 1e-3} | {name: 0}))


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_an_ema_decay_of_one_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="ema_decay must lie in"):
        TrainingConfig(10, 2, 1e-3, ema_decay=decay)


def test_schedule_rises_to_the_peak_and_falls_to_the_final_share() -> None:
    config = TrainingConfig(200, 2, 1e-3, warmup_steps=50, final_learning_rate=0.1)
    assert config.learning_rate_at(0) == pytest.approx(1 / 50)
    assert config.learning_rate_at(49) == 1.0
    assert config.learning_rate_at(50) == 1.0
    assert config.learning_rate_at(125) == pytest.approx(0.55)  # half way down the cosine
    assert config.learning_rate_at(200) == pytest.approx(0.1)
    assert config.learning_rate_at(10_000) == pytest.approx(0.1)


@given(
    steps=st.integers(1, 5_000),
    warmup=st.integers(0, 500),
    final=st.floats(0.0, 1.0),
    step=st.integers(0, 6_000),
)
def test_learning_rate_stays_a_share_of_the_peak_and_only_falls_after_warmup(
    steps: int, warmup: int, final: float, step: int
) -> None:
    config = TrainingConfig(steps, 1, 1.0, warmup_steps=warmup, final_learning_rate=final)
    here, after = config.learning_rate_at(step), config.learning_rate_at(step + 1)
    assert 0.0 <= here <= 1.0 + 1e-12
    if step >= warmup:
        assert after <= here + 1e-12
        assert here >= final - 1e-12


def test_as_dict_gives_the_same_config_through_json() -> None:
    config = TrainingConfig(10, 2, 1e-3, seed=4, autocast=True)
    assert TrainingConfig(**json.loads(json.dumps(config.as_dict()))) == config
