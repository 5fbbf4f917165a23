"""Settings of a run: `pinco.yaml` < environment (`PINCO_RAY__ADDRESS=...`) < flags.

The same flow runs on a laptop and on a cluster; only what stands here differs.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as EnvironmentSourceError

from flows.settings_errors import PREFIX, mistakes
from flows.settings_file import SettingsError, SettingsFile, read_settings_file
from pinco.catalog.quality.decision import QualityRules
from pinco.catalog.store.access import StoreAccess
from pinco.generation.settings import ModelSettings
from pinco.validation import shown

CONFIG_FILE = "pinco.yaml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RaySettings(_Section):
    """Where the actors live and how many there are."""

    # "local" starts Ray here. A bare ray.init() would attach to whatever cluster was left running on the machine.
    address: str = "local"
    # Inference actors; None = one per GPU of this machine, or one without GPUs.
    generators: int | None = Field(None, ge=1)
    # GPUs per inference actor; None = 1 where the device is a GPU, else 0 (pinned to CPUs).
    generator_gpus: float | None = Field(None, ge=0)
    preparers: int = Field(1, ge=1)
    # Torch and OpenCV threads of every actor. Bytes made on a CPU depend on it, so it is fixed and recorded per row.
    threads: int = Field(1, ge=1)
    # Local object store; canvases wait in it, and a window of them is all that ever waits.
    object_store_mib: int = Field(512, ge=80)
    # Rows that share a canvas and are asked of an actor in one call.
    batch_rows: int = Field(4, ge=1)
    # On GPUs a batch begins with batch_rows and grows up to this while it fits into memory.
    max_batch_rows: int = Field(32, ge=1)
    # Rows prepared or being made per inference actor.
    window_rows: int = Field(16, ge=1)
    in_flight: int = Field(2, ge=1)
    # A batch that takes longer than this is taken for a dead actor.
    hang_seconds: float = Field(1800, gt=0)
    close_seconds: float = Field(20, gt=0)

    @property
    def lanes_wanted(self) -> int:
        """Inference actors, as far as it can be said without asking for GPUs."""
        return self.generators or 1


class CommitSettings(_Section):
    """When finished rows become visible in the manifest: when so many wait, or so long after the last time.

    Attributes:
        rows: Rows that wait at most.
        seconds: Time between two appends.
    """

    rows: int = Field(2000, ge=1)
    seconds: float = Field(10.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _name_what_replaces(cls, given: Any) -> Any:
        former = sorted({"minutes", "part_seconds"} & set(given)) if isinstance(given, dict) else []
        if former:
            names = " and ".join(f"commit.{name}" for name in former)
            raise ValueError(f"{names} no longer exist; rows become visible every commit.seconds (default 10)")
        return given


class FailureSettings(_Section):
    """A run ends, after a commit, when more than `share` of at least `rows` finished rows failed.

    Rows whose photo cannot be used, or was changed or deleted, do not count at all.
    """

    share: float = Field(0.5, gt=0, le=1)
    rows: int = Field(20, ge=1)


class PrefectSettings(_Section):
    """Whether a local `pinco run` goes through Prefect.

    Attributes:
        mode: "auto" goes through the server of PREFECT_API_URL, and without Prefect where there is none; "temporary"
            starts a server for this run only (15 s on two cores, and nothing is left to look at afterwards, so it is
            not the default); "off" never uses Prefect.
        heartbeat_seconds: How often the progress artifact is updated.
    """

    mode: Literal["auto", "temporary", "off"] = "auto"
    heartbeat_seconds: float = Field(30, ge=1, le=60)


class SheetDefaults(_Section):
    """What holds where a row of the sheet says nothing."""

    channel: str = "square"
    negative: str | None = None
    placement: Literal["original", "centre", "bottom"] = "original"
    scale: float | None = Field(None, gt=0, le=1)
    padding: float = Field(0.08, ge=0, lt=0.5)


class FinishSettings(_Section):
    """What is done to the ground under the product. "none" leaves the shadow to the model."""

    shadow: Literal["none", "contact-1"] = "none"


class Settings(BaseSettings):
    """Everything that a run can be told beside its sheet, catalog and store."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    model: ModelSettings = ModelSettings()
    ray: RaySettings = RaySettings()
    commit: CommitSettings = CommitSettings()
    failures: FailureSettings = FailureSettings()
    prefect: PrefectSettings = PrefectSettings()
    sheet: SheetDefaults = SheetDefaults()
    # Presets {name: {size, format, quality, profile, method}} and texts {name: template} that sheets name.
    channels: dict[str, dict[str, Any]] = {}
    templates: dict[str, str] = {}
    finish: FinishSettings = FinishSettings()
    quality: QualityRules = QualityRules()
    # How S3 addresses are reached; what is empty comes from the usual AWS configuration.
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_profile: str | None = None

    @property
    def access(self) -> StoreAccess:
        """What is needed to open the stores of this run."""
        return StoreAccess(self.s3_endpoint, self.s3_region, self.s3_profile)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=_file().values)


def load_settings(given: Mapping[str, Any] | None = None, /, **flags: Any) -> Settings:
    """The settings of file and environment, with what is given on top.

    Args:
        given: Settings by section, as `Settings.model_dump` writes them.
        flags: Single settings, which go first; sections and names are joined by two underscores (`model__backbone`). A
            flag that is None was not given.

    Raises:
        SettingsError: A setting is unknown or out of range, or the file cannot be read. Its message has a sentence for
            each mistake, with the file and line, or the environment variable.
    """
    nested: dict[str, Any] = copy.deepcopy(dict(given or {}))
    for name, value in flags.items():
        if value is None:
            continue
        *sections, field = name.split("__")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise SettingsError(f"{section}: it must be a section of names and values; found {shown(place)}.")
        place[field] = value
    try:
        return Settings(**nested)
    except ValidationError as error:
        raise SettingsError("\n".join(mistakes(error, Settings, _file(), nested))) from error
    except EnvironmentSourceError as error:
        cause = error.__cause__ or error
        raise SettingsError(f"an environment variable {PREFIX}... cannot be read: {error} ({cause})") from error


def _file() -> SettingsFile:
    named = os.environ.get("PINCO_CONFIG")
    return read_settings_file(Path(named or CONFIG_FILE), required=bool(named))
