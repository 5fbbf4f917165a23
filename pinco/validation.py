"""What pydantic finds wrong with a value, in the words of people who write settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "extra_forbidden": "there is no such setting",
    "unexpected_keyword_argument": "there is no such setting",
    "missing": "it is missing",
    "literal_error": "it must be {expected}",
    "greater_than": "it must be above {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "less_than": "it must be below {lt}",
    "less_than_equal": "it must be at most {le}",
    "finite_number": "it must be a finite number",
}
_KINDS = {
    "int": "it must be a whole number",
    "float": "it must be a number",
    "bool": "it must be true or false",
    "string": "it must be text",
    "dict": "it must be a section of names and values",
    "model": "it must be a section of names and values",
    "dataclass": "it must be a section of names and values",
    "tuple": "it must be a list",
    "list": "it must be a list",
}


def in_words(found: Mapping[str, Any]) -> str:
    """What is wrong, as a clause without a full stop.

    Args:
        found: An entry of `ValidationError.errors()`.
    """
    kind = str(found["type"])
    if kind in _WORDS:
        return _WORDS[kind].format(**found.get("ctx", {}))
    if kind == "value_error":
        return str(found["msg"]).removeprefix("Value error, ")
    return _KINDS.get(kind.partition("_")[0], str(found["msg"]))


def is_unknown_name(found: Mapping[str, Any]) -> bool:
    """Whether a name is wrong, and not its value."""
    return found["type"] in ("extra_forbidden", "unexpected_keyword_argument")


def shown(value: Any) -> str:
    """A value as messages show it: short, on one line."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # a number of thousands of digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
