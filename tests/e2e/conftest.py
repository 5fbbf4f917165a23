"""A small shop: drawn photos, sheets, a store, and the untrained toy; one Ray for all tests of the process."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from flows.driver import actors
from flows.driver.actors import Generator
from flows.driver.run import RunSummary, run_stages
from flows.planning import CatalogRequest, RetryRequest, RunRequest
from flows.settings import CommitSettings, RaySettings, Settings
from pinco.catalog.manifest.history import history
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import open_store
from pinco.generation.settings import ModelSettings


@pytest.fixture(scope="session")
def small(toy: Path) -> Settings:
    """The untrained toy at its smallest: two steps, 64 pixels."""
    model = ModelSettings(
        backbone=str(toy / "backbone"), adapter=str(toy / "adapter"), device="cpu", steps=2, working_pixels=64 * 64
    )
    return Settings(
        model=model,
        ray=RaySettings(object_store_mib=200),
        commit=CommitSettings(rows=1000, seconds=3600),
        channels={"small": {"size": "96x96"}},
    )


def draw_photo(path: Path, hue: int) -> Path:
    """A round product with a stripe, 120 pixels, cut out by its own alpha."""
    rgba = np.zeros((120, 120, 4), np.uint8)
    cv2.circle(rgba, (60, 60), 40, (hue, 255 - hue, 90, 255), -1)
    cv2.rectangle(rgba, (30, 52), (90, 66), (250, 250, hue, 255), -1)
    cv2.imwrite(str(path), rgba)
    return path


@dataclass(frozen=True)
class Shop:
    """Photos, a store and settings of one test. ``store`` and ``catalog`` may be changed to s3:// addresses."""

    folder: Path
    settings: Settings
    store: str
    catalog: str

    def photo(self, sku: str, hue: int) -> Path:
        return draw_photo(Path(self.catalog) / f"{sku}.png", hue)

    def sheet(self, rows: Sequence[dict[str, Any]], name: str = "sheet.csv") -> str:
        """A sheet on the channel "small"; rows are dicts of its columns."""
        path = self.folder / name
        columns = list(dict.fromkeys(["sku", "prompt", "channel", *(key for row in rows for key in row)]))
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows({"channel": "small", **row} for row in rows)
        return str(path)

    def run(self, sheet: str, *, generator: type[Generator] = Generator) -> RunSummary:
        """Run a sheet; `generator` is the class that the inference actors are made of."""
        return self._stages(CatalogRequest(sheet, self.catalog, self.store), generator)

    def retry(self, run_id: str) -> RunSummary:
        return self._stages(RetryRequest(self.store, run_id), Generator)

    def _stages(self, request: RunRequest, generator: type[Generator]) -> RunSummary:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(actors, "Generator", generator)
            return run_stages(request, self.settings)

    def rows(self) -> list[Row]:
        return read_rows(ManifestTable(open_store(self.store, self.settings.access)))

    def appends(self) -> list[tuple[str, int]]:
        """(run, rows) of every append, in order."""
        versions = list(history(open_store(self.store, self.settings.access)))
        return [(version.run, version.rows) for version in reversed(versions) if version.run]

    def images(self) -> int:
        return sum(1 for _ in open_store(self.store, self.settings.access).list("images/"))

    def with_settings(self, **sections: Any) -> Shop:
        return replace(self, settings=self.settings.model_copy(update=sections))


@pytest.fixture(scope="session")
def open_shop(small: Settings) -> Callable[[Path], Shop]:
    def open_in(folder: Path) -> Shop:
        (folder / "photos").mkdir()
        return Shop(folder, small, str(folder / "store"), str(folder / "photos"))

    return open_in


@pytest.fixture
def shop(tmp_path: Path, open_shop: Callable[[Path], Shop]) -> Shop:
    return open_shop(tmp_path)
