"""The folder of a Ray that was started here, and the process that clears it up, however its owner ended.

Ray's servers, agents and workers outlive a driver or a raylet that is killed, and session folders stay behind. So the
folder has a cleaner: this file run as a program, which waits until its owner closes the pipe between them or is gone,
and then ends every process that works in the folder and removes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection

import psutil

PREFIX = "pinco-ray-"
LONGEST = 40
"""Characters that the folder's path may have: Ray puts sockets below it, and their paths end at 107."""

TRIES = 40


class RayFolder:
    """A new folder for one Ray, with its cleaner running.

    Attributes:
        path: The folder.
    """

    def __init__(self) -> None:
        parent = tempfile.gettempdir()
        self.path = tempfile.mkdtemp(prefix=PREFIX, dir=parent if len(parent) <= LONGEST else "/tmp")
        self._cleaner = subprocess.Popen(
            [sys.executable, "-I", __file__, self.path, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the driver
        )

    def clear(self) -> None:
        """End the processes that work in the folder, this one excepted; the folder stays, for another try."""
        end_processes(self.path, spare={os.getpid(), self._cleaner.pid})

    def remove(self, seconds: float) -> None:
        """Have everything cleared, and wait for it at most so many seconds."""
        if self._cleaner.stdin is not None:
            self._cleaner.stdin.close()
        try:
            self._cleaner.wait(seconds)
        except subprocess.TimeoutExpired:  # it goes on by itself
            return


def end_processes(folder: str, spare: Collection[int] = ()) -> None:
    """Kill every process of this machine whose arguments or open files are in `folder`.

    Workers and agents of Ray change their command line; their log files tell them from others'.

    Args:
        folder: An absolute path that no other program uses.
        spare: Process ids that are left alone.
    """
    for process in psutil.process_iter():
        if process.pid not in {os.getpid(), *spare} and _works_in(process, folder):
            try:
                process.kill()
            except psutil.Error:  # it ended by itself
                continue


def _works_in(process: psutil.Process, folder: str) -> bool:
    try:
        if any(folder in argument for argument in process.cmdline()):
            return True
        return any(file.path.startswith(folder) for file in process.open_files())
    except (psutil.Error, OSError):  # it ended meanwhile, or belongs to somebody else
        return False


def clean(folder: str, owner: int) -> None:
    """Wait for the end of standard input, then clear the folder and remove it.

    Args:
        folder: The folder of a Ray.
        owner: The process that started it, which may still have files open there.
    """
    sys.stdin.buffer.read()
    for _ in range(TRIES):  # workers start others while they end, and an owner that is closing still writes
        end_processes(folder, spare={owner})
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.5)


if __name__ == "__main__":
    clean(sys.argv[1], int(sys.argv[2]))
