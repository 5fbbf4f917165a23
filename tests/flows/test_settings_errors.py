from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.settings import Settings, load_settings
from flows.settings_errors import setting_names
from flows.settings_file import SettingsError


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(given: Any = None, **flags: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(given, **flags)
    assert caught.value.code == "invalid_settings"
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ray:\n  prepares: 2\n", "line 2: ray.prepares: there is no such setting; found 2. Did you mean 'preparers'?"),
        ("backbone: x\n", "line 1: backbone: there is no such setting; found 'x'. Did you mean 'model.backbone'?"),
        ("ray: {threads: many}\n", "line 1: ray.threads: it must be a whole number; found 'many'."),
        ("ray: {threads: 0}\n", "line 1: ray.threads: it must be at least 1; found 0."),
        ("ray: 5\n", "line 1: ray: it must be a section of names and values; found 5."),
        ("ray: [1]\n", "line 1: ray: it must be a section of names and values; found [1]."),
        ("\nquality: {reject: 1}\n", "line 2: quality.reject: there is no such setting; found 1."),
        ("templates:\n  winter: no\n", "line 2: templates.winter: it must be text; found False."),
        ("channels: {web: 512}\n", "line 1: channels.web: it must be a section of names and values; found 512."),
        ("prefect: {mode: on}\n", "line 1: prefect.mode: it must be 'auto', 'temporary' or 'off'; found True."),
    ],
)
def test_mistakes_in_the_file(own_folder: Path, text: str, message: str) -> None:
    (own_folder / "pinco.yaml").write_text(text)
    assert [line[: len(f"pinco.yaml, {message}")] for line in said()] == [f"pinco.yaml, {message}"]


def test_all_mistakes_are_reported_together(own_folder: Path) -> None:
    (own_folder / "pinco.yaml").write_text("ray: {threads: 0}\nmodle: {steps: 3}\n")
    assert len(said()) == 2


def test_mistakes_in_the_environment(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    (own_folder / "pinco.yaml").write_text("ray: {threads: 2}\n")
    monkeypatch.setenv("PINCO_RAY__THREADS", "0")
    assert said() == ["environment variable PINCO_RAY__THREADS: ray.threads: it must be at least 1; found '0'."]
    monkeypatch.delenv("PINCO_RAY__THREADS")
    monkeypatch.setenv("PINCO_RAY", "no JSON")
    (line,) = said()
    assert line.startswith("an environment variable PINCO_... cannot be read") and '"ray"' in line


def test_mistakes_in_what_was_given(own_folder: Path) -> None:
    (own_folder / "pinco.yaml").write_text("ray: {threads: 2}\n")
    assert said(ray__threads=0) == ["ray.threads: it must be at least 1; found 0."]
    assert said({"ray": {"thread": 1}}) == ["ray.thread: there is no such setting; found 1. Did you mean 'threads'?"]
    assert said({"model": 5}, model__backbone="x") == ["model: it must be a section of names and values; found 5."]


def test_a_settings_file_that_was_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINCO_CONFIG", "none.yaml")
    assert said() == ["none.yaml: there is no such settings file (PINCO_CONFIG names it)"]


def test_names_of_all_settings() -> None:
    names = set(setting_names(Settings))
    assert {("ray",), ("ray", "threads"), ("quality", "review_confidence"), ("model", "steps"), ("templates",)} <= names
