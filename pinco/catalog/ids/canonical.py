"""One spelling for one value: the JSON that ids are hashes of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Spell `value` (dataclasses, mappings, sequences, scalars) as JSON in exactly one way.

    Keys sorted, no spaces, UTF-8 text unescaped, floats in Python's shortest round-trip form.

    Raises:
        ValueError: on NaN or infinity, which JSON does not have.
        TypeError: on a value that has no JSON form.
    """
    return _ENCODER.encode(value)


def canonical_sha256(value: Any) -> str:
    """sha256, as 64 hex digits, of `canonical_json(value)` in UTF-8."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
)  # made once: a plan spells a million jobs
