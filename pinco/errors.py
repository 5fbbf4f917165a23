"""`PincoError`: the base of all errors that Pinco raises on purpose. Catch it to catch them all."""

from __future__ import annotations

from preprocessing.errors import PincoError

__all__ = ["PincoError"]
