from __future__ import annotations

import pytest

from flows.ray_session import RaySession
from flows.settings import RaySettings


@pytest.fixture(scope="session")
def ray_running() -> None:
    """One Ray per pytest process, shared with the other folders; Ray ends itself when the process does."""
    RaySession(RaySettings(object_store_mib=200, generators=2)).wait()
