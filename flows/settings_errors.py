"""Mistakes in settings, as sentences: where each stands, its dotted name, what was found, what was probably meant."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError

from flows.settings_file import Place, SettingsFile
from pinco.catalog.sheet.problems import did_you_mean
from pinco.validation import in_words, is_unknown_name, shown

PREFIX = "PINCO_"
"""Of environment variables."""


def mistakes(error: ValidationError, kind: type[BaseModel], file: SettingsFile, given: Mapping[str, Any]) -> list[str]:
    """A sentence for each mistake.

    Args:
        error: What pydantic found.
        kind: The settings.
        file: The settings file.
        given: Settings that were given as flags or by the caller, by section.
    """
    names = list(setting_names(kind))
    lines = []
    for found in error.errors():
        place = tuple(str(part) for part in found["loc"])
        dotted = ".".join(place) or "settings"
        hint = _closest(place, names) if is_unknown_name(found) else ""
        lines.append(f"{_origin(place, file, given)}{dotted}: {in_words(found)}; found {shown(found['input'])}. {hint}")
    return [line.rstrip() for line in dict.fromkeys(lines)]


def setting_names(kind: type) -> Iterator[Place]:
    """The places of all settings and sections."""
    hints = get_type_hints(kind)
    own = [entry.name for entry in fields(kind)] if is_dataclass(kind) else list(getattr(kind, "model_fields", {}))
    for name in own:
        yield (name,)
        section = hints[name]
        if isinstance(section, type) and (is_dataclass(section) or issubclass(section, BaseModel)):
            yield from ((name, *rest) for rest in setting_names(section))


def _origin(place: Place, file: SettingsFile, given: Mapping[str, Any]) -> str:
    """Where a setting was found; flags go before the environment, and that before the file."""
    inside: Any = given
    for part in place:
        if not isinstance(inside, Mapping) or part not in inside:
            break
        inside = inside[part]
    else:
        return ""
    variables = {name.upper(): name for name in os.environ}
    for length in range(len(place), 0, -1):
        variable = PREFIX + "__".join(place[:length]).upper()
        if variable in variables:
            return f"environment variable {variables[variable]}: "
    line = file.line_of(place)
    return f"{file.path}, line {line}: " if line else ""


def _closest(place: Place, names: list[Place]) -> str:
    """The closest name in the same section, or else the same name in another section."""
    section = {name[-1] for name in names if name[:-1] == place[:-1]}
    hint = did_you_mean(place[-1], section)
    if hint:
        return hint
    elsewhere = [".".join(name) for name in names if name[-1] == place[-1]]
    return f"Did you mean {elsewhere[0]!r}?" if elsewhere else ""
