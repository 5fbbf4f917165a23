"""What all kernels share."""

from __future__ import annotations

import torch

from pinco.adapter.kernels.choice import CPU, CUDNN, EFFICIENT, FLASH
from tests.pinco.adapter.attention_inputs import padding, random_inputs


def test_a_bias_is_minus_infinity_where_a_key_is_not_attended_to() -> None:
    q = random_inputs(torch.bfloat16)[0]
    for kernel in (CPU, FLASH, CUDNN, EFFICIENT):
        assert kernel.bias(None, q) is None
        bias = kernel.bias(padding(), q)
        assert bias is not None and bias.dtype == q.dtype
        assert torch.equal(bias.expand(2, 3, 21, 9)[:, 0, 0] == 0, padding())
        assert bool((bias.masked_select(bias != 0) == float("-inf")).all())
