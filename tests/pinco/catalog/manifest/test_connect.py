from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pinco.catalog.manifest import connect
from pinco.catalog.manifest.connect import (
    LOG,
    READ_ATTEMPTS,
    TABLE,
    ManifestError,
    OldManifestError,
    open_delta,
    read_whole,
    said_by,
    sync_version,
)
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.schema import Row
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.manifest.upkeep import compact
from pinco.catalog.store.access import StoreAccess
from pinco.catalog.store.base import Store, StoreError
from tests.e2e.flaky_proxy import FlakyProxy


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


class Cutting:
    """A proxy in a process of its own (delta-rs holds Python's lock while it waits for some answers).

    Attributes:
        endpoint: Its address.
        requests: How many there were.
        cut_at: Which of them gets an answer that is cut short.
    """

    def __init__(self, server: str) -> None:
        forking = multiprocessing.get_context("fork")
        self.requests, self.cut_at = forking.Value("i"), forking.Value("i")
        here, there = forking.Pipe()
        self._process = forking.Process(target=self._serve, args=(server, there), daemon=True)
        self._process.start()
        self.endpoint = str(here.recv())

    def _serve(self, server: str, there: Connection) -> None:
        cutting = self

        class Proxy(FlakyProxy):
            def fate(self, command: str) -> str:
                with cutting.requests.get_lock():
                    cutting.requests.value += 1
                    return "cut" if cutting.requests.value == cutting.cut_at.value and command == "GET" else "pass"

        there.send(Proxy(server, share=0).endpoint)
        threading.Event().wait()

    def close(self) -> None:
        self._process.kill()
        self._process.join()


@pytest.mark.slow
def test_an_answer_that_is_cut_short_neither_hides_the_table_nor_ends_an_append(
    bucket: str, s3_endpoint: str, make_row: Callable[..., Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_whole.retry, "sleep", lambda seconds: None)  # type: ignore[attr-defined]
    proxy = Cutting(s3_endpoint)
    try:
        while proxy.cut_at.value <= proxy.requests.value:
            proxy.requests.value, proxy.cut_at.value = 0, proxy.cut_at.value + 1
            uri = f"s3://{bucket}/{proxy.cut_at.value}"
            other = ManifestTable(StoreAccess(s3_endpoint).open(uri))
            other.append([make_row(1)], run_id="run-a", batch=1, base=0)
            table = ManifestTable(StoreAccess(proxy.endpoint).open(uri))
            for batch, writer in ((2, other), (3, table)):  # the second one finds its version taken
                writer.append([make_row(batch)], run_id="run-a", batch=batch, base=0)
            assert len(read_rows(table)) == 3
        assert proxy.cut_at.value > 10
    finally:
        proxy.close()


def test_answers_that_are_always_cut_short_are_an_error_that_says_why(
    bucket: str, s3_endpoint: str, make_row: Callable[..., Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_whole.retry, "sleep", lambda seconds: None)  # type: ignore[attr-defined]
    table = ManifestTable(StoreAccess(s3_endpoint).open(f"s3://{bucket}/x"))
    table.append([make_row(0)], run_id="run-a", batch=1, base=0)
    asked = []

    def cut() -> None:
        asked.append(1)
        raise OSError(
            "Kernel error -> Generic S3 error\n  \x1b[31m↳\x1b[0m HTTP error\n   \x1b[31m↳\x1b[0m response body error"
        )

    monkeypatch.setattr(type(table.delta), "update_incremental", lambda self: cut())
    with pytest.raises(ManifestError, match="Kernel error -> Generic S3 error: HTTP error: response body error"):
        table.refresh()
    assert len(asked) == READ_ATTEMPTS


def test_an_error_without_words_is_named() -> None:
    assert said_by(OSError()) == "OSError"
    assert said_by(OSError("one\nof several lines")) == "one"
