from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from flows.driver.ray_folder import RayFolder, end_processes

WAIT = "import sys, time; file = open(sys.argv[1] + '/log', 'w') if len(sys.argv) > 1 else None; print('up', flush=True); time.sleep(60)"  # noqa: E501


def worker(folder: str, *, by_file: bool) -> subprocess.Popen[str]:
    """A process that works in a folder: by an open file alone, or named in its arguments."""
    words = [sys.executable, "-c", WAIT, folder]
    if by_file:  # the folder is in its environment only, and its log is open there
        code = (
            "import os, time; file = open(os.environ['PLACE'] + '/log', 'w'); print('up', flush=True); time.sleep(60)"
        )
        words = [sys.executable, "-c", code]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"PLACE": folder})
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    return process


def until(met: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_processes_of_the_folder_are_ended_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours = [worker(str(tmp_path / "ours"), by_file=flag) for flag in (False, True)]
    theirs = worker(str(tmp_path / "theirs"), by_file=True)
    try:
        end_processes(str(tmp_path / "ours"), spare=[ours[1].pid])
        assert ours[0].wait(10) == -9 and ours[1].poll() is None
        end_processes(str(tmp_path / "ours"))
        assert ours[1].wait(10) == -9 and theirs.poll() is None
    finally:
        theirs.kill()


def test_the_folder_goes_when_its_owner_says_so() -> None:
    folder = RayFolder()
    folder.clear()  # between two tries to start; it has to leave the cleaner alive
    process = worker(folder.path, by_file=True)
    folder.remove(30)
    assert process.wait(10) == -9
    assert not os.path.exists(folder.path)


def test_the_folder_goes_when_its_owner_is_killed() -> None:
    code = (
        "import time\nfrom flows.driver.ray_folder import RayFolder\n"
        "folder = RayFolder()\nprint(folder.path, folder._cleaner.pid, flush=True)\ntime.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    path, cleaner = owner.stdout.readline().split()
    process = worker(path, by_file=True)
    owner.kill()
    owner.wait()
    assert process.wait(30) == -9
    until(lambda: not os.path.exists(path))
    until(lambda: not psutil.pid_exists(int(cleaner)) or psutil.Process(int(cleaner)).status() == psutil.STATUS_ZOMBIE)
