"""A small random backbone and adapters for it, for tests of the adapter's parts; whole adapters: see `suite`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from diffusers import FluxTransformer2DModel
from torch import Tensor

from pinco.adapter import PincoAdapter
from tests.pinco.adapter.families.flux_suite import FluxSuite
from tests.pinco.adapter.suite import SMALL

_SUITE = FluxSuite()


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    return _SUITE.new_backbone()


@pytest.fixture
def make_adapter(transformer: FluxTransformer2DModel) -> Callable[..., PincoAdapter]:
    """Adapters for `transformer` with open gates; not attached."""
    return lambda **options: _SUITE.new_adapter(transformer, **options)


@pytest.fixture
def inputs(transformer: FluxTransformer2DModel) -> dict[str, Any]:
    return _SUITE.new_inputs(transformer, 2, SMALL)


@pytest.fixture
def subject_inputs(transformer: FluxTransformer2DModel) -> tuple[Tensor, Tensor]:
    return _SUITE.new_subject_inputs(transformer)
