"""The lock is complete, exact, free of one machine's builds, and what is installed."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
LOCKED = {canonicalize_name(name): Version(version) for name, _, version in (line.partition("==") for line in LINES)}
DIRECT = [Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]


def test_every_line_is_one_exact_version() -> None:
    # No "+cpu", no hashes, no addresses: the same file installs on any machine.
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []


def test_no_package_is_locked_twice() -> None:
    assert len(LOCKED) == len(LINES)


def test_no_cuda_package_is_listed() -> None:
    assert [name for name in LOCKED if name.startswith(("nvidia", "cuda", "triton"))] == []


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_direct_dependency_is_locked_within_its_range(requirement: Requirement) -> None:
    version = LOCKED[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_what_is_installed_is_what_is_locked() -> None:
    installed = {name: Version(metadata.version(name)).public for name in LOCKED}
    assert installed == {name: str(version) for name, version in LOCKED.items()}
