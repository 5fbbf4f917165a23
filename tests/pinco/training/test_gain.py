from __future__ import annotations

import pytest
import torch

from pinco.adapter.adapter import PincoAdapter
from pinco.toy.model.backbone import predict
from pinco.toy.model.untrained import untrained_parts
from pinco.training.dataset import Batch
from pinco.training.gain import output_gain
from pinco.training.losses import add_noise


def _gains(gate: float) -> tuple[PincoAdapter, dict[int, float]]:
    parts = untrained_parts(3)
    adapter = parts.adapter.attach(parts.transformer)
    with torch.no_grad():
        for group in adapter.parameter_groups(1.0):
            if group["name"] == "gates":
                for value in group["params"]:
                    value.fill_(gate)
    g = torch.Generator().manual_seed(0)
    batch = Batch(
        latents=torch.randn(2, 16, 64, generator=g),
        subject_latents=torch.randn(2, 16, 8, 8, generator=g),
        maps=torch.rand(2, 3, 64, 64, generator=g),
        cover=torch.ones(2, 16),
        pooled=torch.randn(2, 96, generator=g),
        sequence=torch.randn(2, 24, 96, generator=g),
        grid=(4, 4),
    )
    noised = add_noise(batch.latents, g)
    with adapter.using(adapter.encode(batch.subject_latents, batch.maps)) as extra:
        return adapter, output_gain(adapter, lambda: predict(parts.transformer, noised, batch, extra))


def test_closed_gates_change_no_norm() -> None:
    adapter, gains = _gains(0.0)
    assert list(gains) == list(adapter.settings.layers)
    assert list(gains.values()) == [1.0] * len(gains)


def test_the_output_grows_with_the_gate() -> None:
    adapter, narrow = _gains(0.2)
    _, wide = _gains(1.0)
    assert all(1.0 < narrow[n] < wide[n] for n in narrow)
    assert adapter.scale == 1.0  # put back


def test_an_adapter_that_is_not_attached_is_refused() -> None:
    with pytest.raises(RuntimeError, match="attach the adapter"):
        output_gain(untrained_parts(3).adapter, lambda: None)
