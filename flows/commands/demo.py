"""``pinco demo``."""
from __future__ import annotations
def demo() -> None:
    """Make a small catalog with the built-in model."""
