from __future__ import annotations

import errno
import multiprocessing
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pinco.catalog.store.base import StoreError
from pinco.catalog.store.local import LocalStore


def _race(root: str, name: str, start: object, won: object) -> None:
    store = LocalStore(root)
    start.wait()  # type: ignore[attr-defined]
    for number in range(50):
        if store.put_if_absent(f"k/{number}", name.encode() * 1000):
            won.put((number, name))  # type: ignore[attr-defined]


def test_exactly_one_of_several_processes_creates_each_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, won = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_race, args=(str(tmp_path), name, start, won)) for name in "abc"]
    for process in processes:
        process.start()
    winners = [won.get(timeout=60) for _ in range(50)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert won.empty()
    assert sorted(number for number, _ in winners) == list(range(50))
    store = LocalStore(tmp_path)
    assert all(store.get(f"k/{number}") == name.encode() * 1000 for number, name in winners)


def test_readers_see_complete_objects_or_none(tmp_path: Path) -> None:
    store, whole, stop, halves = LocalStore(tmp_path), b"x" * 200_000, threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            halves.extend(info for info in store.list() if info.size != len(whole))

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(30):
        store.put_if_absent(f"o/{number}", whole)
    stop.set()
    thread.join()
    assert halves == []


def test_a_failed_create_leaves_no_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if_absent("x", b"1")
    store.put_if_absent("x", b"2")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x"]


def test_files_of_a_killed_writer_are_invisible_and_removed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if_absent("x", b"1")
    staged = tmp_path / ".staging" / "dead"
    staged.write_bytes(b"half")
    assert [info.key for info in store.list()] == ["x"]
    assert store.sweep(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert store.sweep(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert not staged.exists()
    assert store.get("x") == b"1"


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a//b", "../x", "a/../b", "./a", "a/", ".staging/x"])
def test_keys_cannot_leave_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        LocalStore(tmp_path).put_if_absent(key, b"")


def test_a_file_system_without_hard_links_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match="no hard links"):
        LocalStore(tmp_path).put_if_absent("x", b"1")
    assert list((tmp_path / ".staging").iterdir()) == []


def test_permission_denied_is_not_taken_for_missing_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, staging = os.link, str(tmp_path / ".staging")

    def refuse_elsewhere(source: Path, target: Path) -> None:
        if not str(target).startswith(staging):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        link(source, target)

    monkeypatch.setattr(os, "link", refuse_elsewhere)
    with pytest.raises(StoreError, match=r"operation not permitted\. Allow this user to write to"):
        LocalStore(tmp_path).put_if_absent("x", b"1")
    assert list((tmp_path / ".staging").iterdir()) == []

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # vfat says this, for want of links

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match="no hard links"):
        LocalStore(tmp_path).put_if_absent("x", b"1")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_that_may_not_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match="cannot be written") as caught:
        LocalStore(tmp_path).put_if_absent("x", b"1")
    assert "hard links" not in str(caught.value)
    assert f"Allow this user to write to {tmp_path}" in str(caught.value)


def test_pipes_and_devices_are_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "photo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    store = LocalStore(tmp_path)
    assert list(store.list()) == []
    for name in ("photo.png", "zero.png"):
        assert store.head(name) is None
        with pytest.raises(StoreError, match="not a file"):
            store.get(name)


def test_a_folder_that_may_not_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "yours").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("yours"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StoreError, match="yours cannot be listed: permission denied"):
        list(LocalStore(tmp_path).list())
    assert list(LocalStore(tmp_path / "none").list()) == []


def test_a_modification_time_outside_the_calendar_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1")
    try:
        os.utime(tmp_path / "x", (1e12, 1e12))
    except OSError:  # a file system with shorter times
        os.utime(tmp_path / "x", (0, 0))
    info = LocalStore(tmp_path).head("x")
    assert info is not None and info.size == 1


def test_a_sweep_survives_files_that_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / ".staging").mkdir()
    (tmp_path / ".staging" / "gone").symlink_to(tmp_path / "nowhere")
    assert store.sweep(datetime.now(UTC)) == 0


def test_a_home_that_nobody_has_is_no_crash() -> None:
    assert LocalStore("~nobody-of-this-name/x").uri.endswith("/~nobody-of-this-name/x")


@pytest.mark.parametrize("replace", [True, False], ids=["another file", "the same file"])
def test_a_file_replaced_by_one_of_equal_size_and_time_has_another_etag(tmp_path: Path, replace: bool) -> None:
    path, other = tmp_path / "photo", tmp_path / "other"
    other.write_bytes(b"two")
    os.utime(other, ns=(1, 1))
    time.sleep(0.02)  # file systems count in ticks of a few milliseconds
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    before = LocalStore(tmp_path).head("photo")
    time.sleep(0.02)
    if replace:
        other.replace(path)
    else:
        path.write_bytes(b"two")
        os.utime(path, ns=(1, 1))
    after = LocalStore(tmp_path).head("photo")
    assert before is not None and after is not None
    assert (before.size, before.modified) == (after.size, after.modified)
    assert before.etag != after.etag


def test_a_path_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written: "):
        LocalStore(tmp_path / "file").put_if_absent("x", b"1")


def test_the_etag_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(b"one")
    before = LocalStore(tmp_path).head("photo")
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    after = LocalStore(tmp_path).head("photo")
    assert before is not None and after is not None
    assert before.etag != after.etag


def test_the_public_address_is_a_file_url(tmp_path: Path) -> None:
    assert LocalStore(tmp_path / "a b").presign("x.png") == (tmp_path / "a b" / "x.png").as_uri()
