"""One docstring dialect: Google style. Names and types in it are checked by the strict build of the documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path.relative_to(ROOT) for package in ("preprocessing", "pinco", "flows") for path in (ROOT / package).rglob("*.py")
)

SECTIONS = {"Args", "Attributes", "Raises", "Returns", "Yields"}
OTHER_DIALECTS = re.compile(r"^\s*(:param|:return|:raises|Parameters\n\s*-{3,}|Returns\n\s*-{3,})|``", re.MULTILINE)
PROSE_RAISES = re.compile(r"(^|[.;] )Raises [`A-Z]\w+", re.MULTILINE)
LOOSE_ENTRY = re.compile(r"^[a-z_]\w*(, [a-z_]\w*)*: \S", re.MULTILINE)


def public_docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Name and docstring of every public class, function and method."""
    waiting: list[ast.AST] = [ast.parse((ROOT / path).read_text())]
    while waiting:
        node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                hidden = child.name.startswith("_") and child.name != "__init__"
                text = ast.get_docstring(child)
                if text and not hidden:
                    yield child.name, text
                if isinstance(child, ast.ClassDef) and not hidden:
                    waiting.append(child)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_docstrings_are_in_google_style(path: Path) -> None:
    wrong = []
    for name, text in public_docstrings(path):
        if OTHER_DIALECTS.search(text):
            wrong.append(f"{name}: another dialect")
        if PROSE_RAISES.search(text):
            wrong.append(f"{name}: errors belong into a section Raises")
        if LOOSE_ENTRY.search(text):
            wrong.append(f"{name}: arguments and attributes belong into a section Args or Attributes")
        for section in re.findall(r"^([A-Z]\w+):$", text, re.MULTILINE):
            if section not in SECTIONS:
                wrong.append(f"{name}: unknown section {section}")
    assert wrong == []
