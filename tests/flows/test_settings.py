from __future__ import annotations

from pathlib import Path

import pytest

from flows.settings import Settings, load_settings
from flows.settings_file import SettingsError


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_file_then_environment_then_flags(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_folder / "pinco.yaml").write_text("ray: {preparers: 2, threads: 2, batch_rows: 2}\ns3_endpoint: http://file\n")
    monkeypatch.setenv("PINCO_RAY__THREADS", "3")
    monkeypatch.setenv("PINCO_RAY__BATCH_ROWS", "3")
    settings = load_settings(ray__batch_rows=5, s3_endpoint=None)
    assert (settings.ray.preparers, settings.ray.threads, settings.ray.batch_rows) == (2, 3, 5)
    assert settings.s3_endpoint == "http://file", "a flag that was not given changes nothing"


def test_the_file_can_lie_elsewhere(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_folder / "other.yaml").write_text("commit: {rows: 7}\n")
    monkeypatch.setenv("PINCO_CONFIG", "other.yaml")
    assert load_settings().commit.rows == 7


def test_a_misspelt_setting_is_refused_by_name(own_folder: Path) -> None:
    (own_folder / "pinco.yaml").write_text("ray: {preprocessors: 2}\n")
    with pytest.raises(SettingsError, match=r"pinco.yaml, line 1: ray\.preprocessors: there is no such setting"):
        load_settings()


def test_without_anything_ray_is_started_here_and_the_toy_is_used() -> None:
    settings = Settings()
    assert (settings.ray.address, settings.model.backbone, settings.ray.lanes_wanted) == ("local", None, 1)


def test_channels_and_templates_are_read_from_the_file(own_folder: Path) -> None:
    (own_folder / "pinco.yaml").write_text(
        "channels: {shop: {size: 800x600, format: jpeg}}\ntemplates: {winter: 'a {{ product }} in the snow'}\n"
    )
    settings = load_settings()
    assert settings.channels["shop"]["format"] == "jpeg"
    assert settings.templates["winter"].startswith("a {{")


def test_a_setting_of_an_earlier_version_is_refused_with_what_replaces_it(own_folder: Path) -> None:
    (own_folder / "pinco.yaml").write_text("commit: {minutes: 2, part_seconds: 5}\n")
    with pytest.raises(SettingsError, match=r"commit\.minutes and commit\.part_seconds .* commit\.seconds"):
        load_settings()
