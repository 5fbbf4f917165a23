"""`pinco.yaml`, read strictly: names occur once, nothing unfolds without end, every setting has a line number."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pinco.errors import PincoError, first_line
from pinco.validation import shown

MAX_BYTES = 256 * 1024
MAX_VALUES = 10_000
"""Values in the file, each as often as it is referred to: a few lines of aliases may stand for billions."""

MAX_DEPTH = 20

_TAG = "tag:yaml.org,2002:"

Place = tuple[str, ...]
"""Names of the sections around a setting, and its own."""


class SettingsError(PincoError, ValueError):
    """The settings cannot be used. The message has a line for each mistake, with its file or variable and its name."""

    code = "invalid_settings"


@dataclass(frozen=True)
class SettingsFile:
    """A settings file that could be read.

    Attributes:
        path: Of the file.
        values: Its sections and settings.
        lines: Line numbers of sections and settings, from 1.
    """

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)

    def line_of(self, place: Place) -> int | None:
        """The line of a setting, or else of the innermost section around it that the file has; None without any."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.lines:
                return self.lines[place[:length]]
        return None


def read_settings_file(path: Path, *, required: bool = False) -> SettingsFile:
    """Read a settings file.

    Args:
        path: Of the file.
        required: Whether a missing file is an error; else it has no settings.

    Raises:
        SettingsError: It cannot be read, or is not a YAML mapping of unique names.
    """
    try:
        if path.exists() and not path.is_file():
            raise SettingsError(f"{path}: this is not a file")
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise SettingsError(f"{path}: a settings file has at most {MAX_BYTES // 1024} KiB")
        data = path.read_bytes()
    except FileNotFoundError as error:
        if required:
            raise SettingsError(f"{path}: there is no such settings file (PINCO_CONFIG names it)") from error
        return SettingsFile(path)
    except OSError as error:
        raise SettingsError(f"{path}: the settings file cannot be read: {first_line(error)}") from error
    return parse_settings(data, path)


def parse_settings(data: bytes, path: Path) -> SettingsFile:
    """`read_settings_file` for bytes in memory.

    Raises:
        SettingsError: As by `read_settings_file`.
    """
    try:
        root = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
        reader = _Reader(path)
        values = reader.value(root, ()) if root is not None else None
    except SettingsError:
        raise
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}, line {line}: this is not UTF-8 text. Save the file as UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise SettingsError(f"{where}: this is not valid YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise SettingsError(f"{path}: the settings are nested too deeply") from error
    except Exception as error:  # YAMLError without a place, and what its parts raise: ValueError, KeyError, ...
        raise SettingsError(f"{path}: this is not valid YAML: {first_line(error)}") from error
    if values is not None and not isinstance(values, dict):
        raise SettingsError(
            f"{path}: settings are sections of names and values, as in 'ray: {{threads: 2}}', not {shown(values)}"
        )
    return SettingsFile(path, values or {}, reader.lines)


class _Reader:
    """Turns YAML nodes into values.

    PyYAML's own constructor silently takes the last of several equal names, and unfolds aliases without a limit.
    """

    def __init__(self, path: Path) -> None:
        self.lines: dict[Place, int] = {}
        self._path = path
        self._scalars = yaml.constructor.SafeConstructor()
        self._count = 0

    def value(self, node: yaml.Node, place: Place, depth: int = 0) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._error(node, f"the settings have more than {MAX_VALUES} values, aliases unfolded")
        if depth > MAX_DEPTH:
            raise self._error(node, "the settings are nested too deeply, or refer to themselves")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, place, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.value(item, place, depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise self._error(node, f"the tag {node.tag} is not supported")

    def _mapping(self, node: yaml.MappingNode, place: Place, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged |= self._merged(value_node, place, depth)
                continue
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise self._error(key_node, "a name must be text; put it between quotes")
            if key in found:
                raise self._error(key_node, f"{'.'.join((*place, key))} occurs twice")
            self.lines[*place, key] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, (*place, key), depth + 1)
        return merged | found

    def _merged(self, node: yaml.Node, place: Place, depth: int) -> dict[str, Any]:
        """What `<<` takes over from one mapping, or from several, of which the first goes first."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in reversed(nodes):
            values = self.value(part, place, depth + 1)
            if not isinstance(values, dict):
                raise self._error(part, "<< takes over names and values of a section, and this is none")
            merged |= values
        return merged

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return self._scalars.construct_object(node)
        except Exception as error:  # a date that does not exist, a number of thousands of digits, an unknown tag
            raise self._error(node, f"this value cannot be read: {first_line(error)}") from error

    def _error(self, node: yaml.Node, message: str) -> SettingsError:
        return SettingsError(f"{self._path}, line {node.start_mark.line + 1}: {message}")
