"""`PincoError`: the base of all errors that Pinco raises on purpose. Catch it to catch them all."""

from __future__ import annotations

from preprocessing.errors import PincoError

__all__ = ["PincoError", "first_line"]


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or the name of its type where it has none: for logs and for other messages."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
