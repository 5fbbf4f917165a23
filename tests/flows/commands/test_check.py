from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import open_store
from pinco.catalog.store.base import Store

Pinco = Callable[..., Result]
IMAGE = "images/gen-0123456789abcdef.png"


@pytest.fixture
def store(tmp_path: Path, failed: Callable[..., Row]) -> Store:
    """A store with an image of five bytes, whose hash is another, and a failure."""
    store = open_store(str(tmp_path / "store"))
    store.put_if_absent(IMAGE, b"image")
    image = {"generation_id": "gen", "image_uri": IMAGE, "image_sha256": "ab", "image_bytes": 5, "recipe": "{}"}
    made = replace(failed(0), status="ok", error_type=None, error_message=None, **image)  # type: ignore[arg-type]
    ManifestTable(store).append([made, failed(1)], run_id="night", batch=1, base=0)
    return store


def test_a_missing_image_is_said_and_repaired_when_asked(pinco: Pinco, store: Store) -> None:
    store.delete(IMAGE)
    done = pinco("check", "store")
    assert done.exit_code == 1
    assert "2 rows in 1 files, 1 images" in done.output and "Missing or damaged: 1 images" in done.output
    assert "it is gone" in done.output and "Nothing was changed" in done.output
    repaired = pinco("check", "store", "--repair")
    assert (repaired.exit_code, "1 rows were removed" in repaired.output) == (0, True)
    sound = pinco("check", "store", "--full")
    assert (sound.exit_code, "Nothing is missing or damaged" in sound.output) == (0, True)


@pytest.mark.usefixtures("store")
def test_an_image_with_other_bytes_is_found_by_reading(pinco: Pinco) -> None:
    done = pinco("check", "store", "--full")
    assert (done.exit_code, "1 of them read" in done.output) == (1, True)


def test_what_cannot_be_repaired_ends_with_1(pinco: Pinco, store: Store) -> None:
    Path(store.uri_of(f"manifest/_delta_log/{1:020d}.json")).write_bytes(b"garbage")
    done = pinco("check", "store", "--repair")
    assert done.exit_code == 1
    assert "Not repaired" in done.output and "from a backup" in done.output


def test_a_wrong_address_is_an_error(pinco: Pinco, tmp_path: Path) -> None:
    done = pinco("check", "nowhere")
    assert (done.exit_code, "there is no manifest" in done.output) == (1, True)
    assert not (tmp_path / "nowhere").exists()
