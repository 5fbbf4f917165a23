"""Adds to the documentation site what follows from the tree: a reference page per module, and the list of decisions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PACKAGES = ("pinco", "preprocessing", "flows")

ELSEWHERE = {
    "model-card.md": "pinco/toy/assets/README.md",
    "quality.jpg": "pinco/toy/assets/quality.jpg",
}
"""Files outside of docs/ that pages link to, by their name on the site."""


def modules() -> Iterator[str]:
    """Dotted names of all modules that have something to show, packages before their modules."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if path.stat().st_size:
                yield name


def page_of(module: str) -> str:
    """Where the page of a module lies; a package's page is the index of its folder."""
    parts = module.split(".")
    folder = ROOT.joinpath(*parts)
    return "/".join(["reference", *parts, "index.md"] if folder.is_dir() else ["reference", *parts]) + (
        "" if folder.is_dir() else ".md"
    )


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the sections of the navigation that follow from the tree."""
    decisions = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    sections: dict[str, list[Any]] = {
        "Decisions": ["adr/README.md", *(f"adr/{path.name}" for path in decisions)],
        "Reference": [_tree(package) for package in PACKAGES],
    }
    config.nav = [{name: sections.get(name, pages)} for entry in config.nav or [] for name, pages in entry.items()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every module."""
    for module in modules():
        text = f"# `{module}`\n\n::: {module}\n    options:\n      show_root_heading: false\n"
        files.append(File.generated(config, page_of(module), content=text))
    for name, path in ELSEWHERE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that lead out of docs/ in the repository lead to the copies on the site."""
    for name, path in ELSEWHERE.items():
        markdown = markdown.replace(f"](../{path})", f"]({name})")
    return markdown


def _tree(package: str) -> dict[str, list[Any]]:
    """The navigation of one package: its own page first, then modules and packages in it."""
    found = set(modules())
    here: list[Any] = [page_of(package)] if package in found else []
    inside = sorted({name for name in found if name.rpartition(".")[0] == package})
    for name in inside:
        is_package = ROOT.joinpath(*name.split(".")).is_dir()
        here.append(_tree(name) if is_package else {name.rpartition(".")[2]: page_of(name)})
    return {package.rpartition(".")[2]: here}
