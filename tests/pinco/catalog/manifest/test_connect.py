from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pinco.catalog.manifest import connect
from pinco.catalog.manifest.connect import LOG, TABLE, ManifestError, OldManifestError, open_delta, sync_version
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import compact
from pinco.catalog.store.access import StoreAccess
from pinco.catalog.store.base import Store, StoreError


def test_where_there_is_no_table_none_is_opened_and_nothing_made(store: Store) -> None:
    assert open_delta(store, store.object_store_options()) is None
    assert list(store.list()) == []


def test_a_table_is_opened_where_it_lies(store: Store, make_row: Callable[..., Row]) -> None:
    ManifestTable(store).append([make_row(0)], run_id="run-a", batch=1, base=0)
    delta = open_delta(store, store.object_store_options())
    assert delta is not None and delta.version() == 1
    assert {info.key.partition("/")[0] for info in store.list()} == {TABLE}


def test_a_table_is_found_when_only_its_checkpoint_is_left(folder_store: Store, make_row: Callable[..., Row]) -> None:
    """After thirty days the first entries of the log are removed."""
    table = ManifestTable(folder_store)
    table.append([make_row(0)], run_id="run-a", batch=1, base=0)
    assert table.delta is not None
    table.delta.create_checkpoint()
    folder_store.delete(f"{LOG}{0:020d}.json")
    assert open_delta(folder_store, {}) is not None


def test_the_old_format_is_named_with_the_command_that_converts_it(store: Store) -> None:
    store.put_if_absent("_commits/000000000001.json", b"{}")
    with pytest.raises(OldManifestError, match="`pinco manifest migrate"):
        ManifestTable(store)


def test_a_damaged_table_is_an_error_with_its_address(folder_store: Store) -> None:
    folder_store.put_if_absent(f"{LOG}{0:020d}.json", b"garbage")
    with pytest.raises(ManifestError, match=r"0\.json is damaged, and with it the manifest: .*`pinco check"):
        ManifestTable(folder_store)


def test_s3_without_credentials_is_said(bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StoreAccess(s3_endpoint).open(f"s3://{bucket}/x")
    monkeypatch.setattr(store._session, "get_credentials", lambda: None)  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="no S3 credentials"):
        ManifestTable(store)


def test_a_version_is_synced_with_its_files_and_their_names(
    folder_store: Store, make_row: Callable[..., Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    table = ManifestTable(folder_store)
    table.append([make_row(0)], run_id="run-a", batch=1, base=0)
    monkeypatch.setattr(connect.os, "fsync", note)
    sync_version(folder_store, 1)
    root = Path(folder_store.uri) / TABLE
    (data,) = root.glob("*.parquet")
    assert set(synced) == {data, root, root / "_delta_log", root / "_delta_log" / f"{1:020d}.json"}


def test_a_table_is_found_by_any_version_of_its_log(folder_store: Store, make_row: Callable[..., Row]) -> None:
    """An empty one in its place would lose every row."""
    table = ManifestTable(folder_store)
    for batch in (1, 2):
        table.append([make_row(batch)], run_id="run-a", batch=batch, base=0)
    compact(table)
    for name in ("_last_checkpoint", f"{0:020d}.json", f"{1:020d}.json"):
        folder_store.delete(f"{LOG}{name}")
    assert len(read_rows(ManifestTable(folder_store))) == 2
